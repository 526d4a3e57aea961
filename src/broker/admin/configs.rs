//! What topics are told: described, replaced, changed. The broker itself has no settings to change.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, alter_configs_response,
    incremental_alter_configs_request as incremental, incremental_alter_configs_response,
};
use kafka_protocol::protocol::StrBytes;

use super::topics::source;
use crate::broker::config::{KEYS, Key, TopicConfig};
use crate::broker::refusal::{Answer, Code, Refusal, code, message};
use crate::broker::state::Broker;

const TOPIC: i8 = 2;
const NODE: i8 = 4;

pub(in crate::broker) fn describe_configs(
    broker: &Broker,
    request: &DescribeConfigsRequest,
    version: i16,
) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let described = described(broker, resource, request.include_synonyms, version);
        DescribeConfigsResult::default()
            .with_error_code(code(&described))
            .with_error_message(message(&described))
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
            .with_configs(described.unwrap_or_default())
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn described(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    synonyms: bool,
    version: i16,
) -> Answer<Vec<DescribeConfigsResourceResult>> {
    if resource.resource_type == NODE {
        return Ok(Vec::new());
    }
    let config = config_of(broker, resource.resource_type, &resource.resource_name)?;
    let wanted = |key: &&Key| {
        let names = resource.configuration_keys.as_ref();
        names.is_none_or(|names| names.iter().any(|name| name.as_str() == key.name))
    };
    let each = KEYS.iter().filter(wanted).map(|key| {
        let (value, is_set) = config.value(key);
        let name = StrBytes::from_static_str(key.name);
        let value = Some(StrBytes::from_string(value.to_owned()));
        let synonym = |value, is_set| {
            DescribeConfigsSynonym::default()
                .with_name(name.clone())
                .with_value(value)
                .with_source(source(is_set))
        };
        let mut others = Vec::new();
        if synonyms {
            others.extend(is_set.then(|| synonym(value.clone(), true)));
            others.push(synonym(Some(StrBytes::from_static_str(key.default)), false));
        }
        let result = DescribeConfigsResourceResult::default()
            .with_value(value)
            .with_config_source(source(is_set))
            .with_synonyms(others)
            .with_name(name);
        match version {
            3.. => result.with_config_type(key.type_code()),
            _ => result,
        }
    });
    Ok(each.collect())
}

fn config_of(broker: &Broker, kind: i8, name: &str) -> Answer<std::sync::Arc<TopicConfig>> {
    if kind != TOPIC {
        return Err(Refusal::new(
            Code::InvalidRequest,
            "only topics have a configuration",
        ));
    }
    let topic = broker
        .topics
        .named(name)
        .ok_or(Code::UnknownTopicOrPartition)?;
    Ok(topic.config())
}

fn set(broker: &Broker, name: &str, config: TopicConfig, only_check: bool) -> Answer {
    let topic = broker
        .topics
        .named(name)
        .ok_or(Code::UnknownTopicOrPartition)?;
    if !only_check {
        topic.set_config(config);
    }
    Ok(())
}

/// Replaces everything that was set.
pub(in crate::broker) fn alter_configs(
    broker: &Broker,
    request: &AlterConfigsRequest,
) -> AlterConfigsResponse {
    let responses = request.resources.iter().map(|resource| {
        let name = &resource.resource_name;
        let replaced = || -> Answer {
            config_of(broker, resource.resource_type, name)?;
            let pairs = resource.configs.iter();
            let pairs = pairs.filter_map(|one| Some((one.name.as_str(), one.value.as_deref()?)));
            let config = TopicConfig::new(pairs)?;
            set(broker, name, config, request.validate_only)
        };
        let answer = replaced();
        alter_configs_response::AlterConfigsResourceResponse::default()
            .with_error_code(code(&answer))
            .with_error_message(message(&answer))
            .with_resource_type(resource.resource_type)
            .with_resource_name(name.clone())
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

/// Changes what it names.
pub(in crate::broker) fn incremental_alter_configs(
    broker: &Broker,
    request: &IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let responses = request.resources.iter().map(|resource| {
        let name = &resource.resource_name;
        let changed = || -> Answer {
            let config = config_of(broker, resource.resource_type, name)?;
            let mut changes = resource.configs.iter();
            let config =
                changes.try_fold((*config).clone(), |config, one| changed(&config, one))?;
            set(broker, name, config, request.validate_only)
        };
        let answer = changed();
        incremental_alter_configs_response::AlterConfigsResourceResponse::default()
            .with_error_code(code(&answer))
            .with_error_message(message(&answer))
            .with_resource_type(resource.resource_type)
            .with_resource_name(name.clone())
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn changed(config: &TopicConfig, change: &incremental::AlterableConfig) -> Answer<TopicConfig> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    const SUBTRACT: i8 = 3;
    let (name, value) = (change.name.as_str(), change.value.as_deref());
    let missing = || Refusal::new(Code::InvalidConfig, format!("no value for {name}"));
    match change.config_operation {
        SET => config.with(name, Some(value.ok_or_else(missing)?)),
        DELETE => config.with(name, None),
        APPEND | SUBTRACT => {
            let mut list = config.list(name)?;
            let value = value.ok_or_else(missing)?;
            list.retain(|one| value.split(',').all(|other| other != one));
            if change.config_operation == APPEND {
                list.extend(value.split(',').map(str::to_owned));
            }
            config.with(name, Some(&list.join(",")))
        }
        other => {
            let why = format!("unknown operation {other} for {name}");
            Err(Refusal::new(Code::InvalidRequest, why))
        }
    }
}
