"""Checks of a broker with confluent-kafka: python clients.py HOST:PORT."""

import sys
import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

BOOTSTRAP = sys.argv[1]
DEADLINE = 30


def wait(holds):
    """Kafka's brokers hear of what its controller has done a moment later."""
    until = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < until, "it does not come"
        time.sleep(0.05)


def topic(name, partitions=1, **config):
    config = {key.replace("_", "."): value for key, value in config.items()}
    client = AdminClient({"bootstrap.servers": BOOTSTRAP})
    client.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(DEADLINE)


def producer(**config):
    config = {key.replace("_", "."): value for key, value in config.items()}
    return Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 1, **config})


def read(name, partitions=1, isolation="read_committed"):
    """All values, up to the end of each partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": "readers",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
        }
    )
    consumer.assign([TopicPartition(name, number, 0) for number in range(partitions)])
    values, ended, until = [], 0, time.monotonic() + DEADLINE
    while ended < partitions:
        assert time.monotonic() < until, f"{name} has no end"
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            ended += 1
        else:
            values.append(message.value().decode())
    consumer.close()
    return values


def codecs():
    topic("py-codecs")
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        writer = producer(compression_type=codec, enable_idempotence=True)
        for number in range(100):
            writer.produce("py-codecs", f"{codec}-{number}", headers=[("a", b"1"), ("a", b"2")])
        assert writer.flush(DEADLINE) == 0
    found = read("py-codecs")
    assert len(found) == 500 and found[-1] == "zstd-99", found[-3:]


def transactions():
    topic("py-txn", 2)
    writer = producer(transactional_id="py")
    writer.init_transactions(DEADLINE)
    for number, commit in enumerate([True, False, True]):
        writer.begin_transaction()
        for partition in range(2):
            writer.produce("py-txn", f"{number}{partition}", partition=partition)
        writer.flush(DEADLINE)
        writer.commit_transaction(DEADLINE) if commit else writer.abort_transaction(DEADLINE)
    assert sorted(read("py-txn", 2)) == ["00", "01", "20", "21"]
    assert len(read("py-txn", 2, "read_uncommitted")) == 6
    writer.begin_transaction()
    writer.produce("py-txn", "zombie", partition=0)
    writer.flush(DEADLINE)
    heir = producer(transactional_id="py")
    heir.init_transactions(DEADLINE)
    try:
        writer.commit_transaction(DEADLINE)
        raise AssertionError("a fenced producer committed")
    except Exception as error:
        assert error.args[0].fatal(), error
    assert "zombie" not in read("py-txn", 2)


def groups():
    topic("py-group", 4)
    writer = producer()
    for number in range(40):
        writer.produce("py-group", str(number), partition=number % 4)
    writer.flush(DEADLINE)
    config = {
        "bootstrap.servers": BOOTSTRAP,
        "group.id": "py-group",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 300,
    }
    one, two = Consumer(config), Consumer(config)
    one.subscribe(["py-group"])
    two.subscribe(["py-group"])
    values, until = set(), time.monotonic() + DEADLINE
    shared = False
    while len(values) < 40 or not shared:
        assert time.monotonic() < until, (len(values), shared)
        for consumer in (one, two):
            message = consumer.poll(0.05)
            if message is not None and not message.error():
                values.add(message.value())
        shared = shared or len(one.assignment()) == len(two.assignment()) == 2
    one.commit(offsets=[TopicPartition("py-group", 0, 10)], asynchronous=False)
    assert one.committed([TopicPartition("py-group", 0)], DEADLINE)[0].offset == 10
    one.close()
    two.close()


def admin():
    topic("py-admin", 1, cleanup_policy="compact")
    client = AdminClient({"bootstrap.servers": BOOTSTRAP})
    client.create_partitions([NewPartitions("py-admin", 3)])["py-admin"].result(DEADLINE)
    there = lambda: client.list_topics(timeout=DEADLINE).topics
    wait(lambda: len(there()["py-admin"].partitions) == 3)

    def described():
        names = TopicCollection(["py-admin"])
        return client.describe_topics(names, request_timeout=DEADLINE)["py-admin"].result()

    def delete():
        client.delete_topics(["py-admin"])["py-admin"].result(DEADLINE)
        wait(lambda: "py-admin" not in there())

    first = described()
    assert len(first.partitions) == 3, first.partitions
    assert str(described().topic_id) == str(first.topic_id)
    # Of the same name, and another topic.
    delete()
    topic("py-admin")
    wait(lambda: "py-admin" in there())
    assert str(described().topic_id) != str(first.topic_id)
    delete()


for check in (codecs, transactions, groups, admin):
    check()
