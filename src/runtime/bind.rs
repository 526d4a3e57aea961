//! From a port and a URI to a connector.

mod kafka;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

pub(super) use self::kafka::transaction;
use self::kafka::{kafka_sink, kafka_source};
use super::settings::{Bound, Settings, nearest};
use crate::connectors::embedded::Typed;
use crate::connectors::{FileSink, FileSource, NullSink, Sink, Source, Transactions, is_partition};
use crate::connectors::{StderrSink, StdinSource, StdoutSink};
use crate::error::{Error, Result};
use crate::stream::{Description, Port, PortKind, short_name};

/// What every port is bound with.
#[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "for topics"))]
struct Binding<'a> {
    job: &'a str,
    settings: &'a Settings,
    commit: Option<&'a Arc<Transactions>>,
    /// The partitions of the source with the most, as far as they are known.
    most: Arc<AtomicU32>,
}

type Bindings = (Vec<Arc<dyn Source>>, Vec<Arc<dyn Sink>>);

/// Binds every port that the job declares.
///
/// # Errors
/// Lists ports that nothing binds, and bindings that no port asks for.
pub(crate) fn bind(
    job: &str,
    description: &Description,
    settings: &Settings,
    commit: Option<&Arc<Transactions>>,
) -> Result<Bindings> {
    check_names(description, settings)?;
    check_properties(description, settings)?;
    let all = Binding {
        job,
        settings,
        commit,
        most: Arc::default(),
    };
    let (mut sources, mut sinks, mut unbound) = (Vec::new(), Vec::new(), Vec::new());
    for port in &description.ports {
        let bound = match port.kind {
            PortKind::Source => source(&all, port)?.map(|source| sources.push(source)),
            PortKind::Sink => sink(&all, port)?.map(|sink| sinks.push(sink)),
        };
        if bound.is_none() {
            unbound.push(match port.kind {
                PortKind::Source => format!("--source {}=URI", port.name),
                PortKind::Sink => format!("--sink {}=URI", port.name),
            });
        }
    }
    if !unbound.is_empty() {
        return Err(Error::usage(format!(
            "ports are not bound: {} (or --output-dir DIR for all sinks, or --bootstrap HOST:PORT \
             for all ports)",
            unbound.join(" ")
        )));
    }
    check_places(&sources, &sinks)?;
    Ok((sources, sinks))
}

/// Every binding is for a port that is there.
fn check_names(description: &Description, settings: &Settings) -> Result {
    let ports = |kind| {
        description
            .ports
            .iter()
            .filter(move |port: &&Port| port.kind == kind)
    };
    let given = [
        (
            PortKind::Source,
            settings.sources.keys().collect::<Vec<_>>(),
        ),
        (PortKind::Sink, settings.sinks.keys().collect()),
    ];
    for (kind, names) in given {
        for name in names {
            if !ports(kind).any(|port| port.name == *name) {
                let hint = nearest(name, ports(kind).map(|port| port.name.as_str()));
                let kind = if kind == PortKind::Source {
                    "source"
                } else {
                    "sink"
                };
                return Err(Error::usage(format!(
                    "the job has no {kind} `{name}`{hint}"
                )));
            }
        }
    }
    Ok(())
}

/// A property for a port that is not there would be without effect.
fn check_properties(description: &Description, settings: &Settings) -> Result {
    let names = || description.ports.iter().map(|port| port.name.as_str());
    for property in &settings.properties {
        #[cfg(feature = "kafka")]
        crate::connectors::check_property(&property.name)?;
        let Some(port) = &property.port else { continue };
        if !names().any(|name| name == port) {
            let (name, hint) = (&property.name, nearest(port, names()));
            return Err(Error::usage(format!(
                "property `{port}:{name}`: the job has no port `{port}`{hint}"
            )));
        }
    }
    Ok(())
}

/// Whether what is bound to `port` is of its type, if it is of any.
fn fits(port: &Port, gives: &str, typed: Option<Typed<'_>>) -> Result {
    match typed {
        Some(typed) if typed.id != port.of => Err(Error::usage(format!(
            "port `{}` holds {}, and what is bound to it {gives} {}",
            port.name,
            port.holds,
            short_name(typed.name)
        ))),
        _ => Ok(()),
    }
}

/// Two sinks at one place would mix or replace each other's results; a sink where something is read
/// would destroy the input.
fn check_places(sources: &[Arc<dyn Source>], sinks: &[Arc<dyn Sink>]) -> Result {
    let read: Vec<_> = sources.iter().filter_map(|source| source.place()).collect();
    let mut written = Vec::new();
    for sink in sinks {
        let Some(place) = sink.place() else { continue };
        if written.contains(&place) {
            return Err(Error::usage(format!(
                "two sinks are bound to {}",
                sink.describe()
            )));
        }
        if read.contains(&place) {
            let why = format!("{} is bound to a source and to a sink", sink.describe());
            return Err(Error::usage(why));
        }
        if let Some(read) = read.iter().find(|read| is_among(&place, read)) {
            let (sink, read) = (sink.describe(), read.trim_start_matches("file:"));
            return Err(Error::usage(format!(
                "{sink} is bound to a sink, and would be among what is read from `{read}`"
            )));
        }
        written.push(place);
    }
    let twice = "standard input".to_owned();
    if read.iter().filter(|place| **place == twice).count() > 1 {
        return Err(Error::usage("two sources are bound to standard input"));
    }
    Ok(())
}

/// Whether a file that is written is one of a folder that is read, or the other way round: what is
/// written is then replaced input, or input of the next run.
fn is_among(written: &str, read: &str) -> bool {
    let (Some(written), Some(read)) = (written.strip_prefix("file:"), read.strip_prefix("file:"))
    else {
        return false;
    };
    let (written, read) = (Path::new(written), Path::new(read));
    let named = |path: &Path| {
        let name = path.file_name().map(OsStrExt::as_bytes);
        name.is_some_and(is_partition)
    };
    (written.parent() == Some(read) && named(written)) || read.parent() == Some(written)
}

fn source(all: &Binding<'_>, port: &Port) -> Result<Option<Arc<dyn Source>>> {
    let settings = all.settings;
    match settings.sources.get(&port.name) {
        Some(Bound::To(source)) => {
            fits(port, "gives", source.typed())?;
            return Ok(Some(Arc::clone(source)));
        }
        Some(Bound::Uri(uri)) => return source_of(all, port, uri).map(Some),
        None => {}
    }
    match (&settings.bootstrap, &port.topic) {
        (Some(_), Some(topic)) => source_of(all, port, &format!("kafka:{topic}")).map(Some),
        _ => Ok(None),
    }
}

fn sink(all: &Binding<'_>, port: &Port) -> Result<Option<Arc<dyn Sink>>> {
    let settings = all.settings;
    match settings.sinks.get(&port.name) {
        Some(Bound::To(sink)) => {
            fits(port, "takes", sink.typed())?;
            return Ok(Some(Arc::clone(sink)));
        }
        Some(Bound::Uri(uri)) => return sink_of(all, port, uri).map(Some),
        None => {}
    }
    if let Some(dir) = &settings.output_dir {
        let path = dir.join(format!("{}.jsonl", port.name));
        let sink = file_sink(&path, settings).in_made_folder();
        return Ok(Some(Arc::new(sink)));
    }
    match (&settings.bootstrap, &port.topic) {
        (Some(_), Some(topic)) => {
            // The topics of letters belong to the job.
            let topic = topic.replace('*', all.job);
            sink_of(all, port, &format!("kafka:{topic}")).map(Some)
        }
        _ => Ok(None),
    }
}

fn file_sink(path: &Path, settings: &Settings) -> FileSink {
    FileSink::new(path, settings.overwrite)
}

/// A URI in its parts: scheme, path, and what follows a question mark.
struct Uri<'a> {
    scheme: &'a str,
    path: &'a str,
    options: Vec<(&'a str, &'a str)>,
}

fn parse<'a>(port: &Port, uri: &'a str) -> Result<Uri<'a>> {
    if uri == "-" {
        return Ok(Uri {
            scheme: "-",
            path: "",
            options: Vec::new(),
        });
    }
    let broken = || {
        let why = format!(
            "port `{}`: expected SCHEME:PATH or -, found `{uri}`",
            port.name
        );
        Error::usage(why)
    };
    let (scheme, rest) = uri.split_once(':').ok_or_else(broken)?;
    if !matches!(scheme, "kafka") {
        return Ok(Uri {
            scheme,
            path: rest,
            options: Vec::new(),
        }); // a path may hold anything
    }
    let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
    let options = options.split('&').filter(|option| !option.is_empty());
    let options = options.map(|option| option.split_once('=').ok_or_else(broken));
    Ok(Uri {
        scheme,
        path,
        options: options.collect::<Result<_>>()?,
    })
}

fn source_of(all: &Binding<'_>, port: &Port, text: &str) -> Result<Arc<dyn Source>> {
    let uri = parse(port, text)?;
    match uri.scheme {
        "file" if !uri.path.is_empty() => Ok(Arc::new(FileSource::new(uri.path))),
        "-" => Ok(Arc::new(StdinSource::new())),
        "kafka" => kafka_source(all, port, &uri),
        _ => Err(unknown(
            port,
            text,
            "file:PATH, kafka:TOPIC or - (standard input)",
            &["file", "kafka"],
        )),
    }
}

fn sink_of(all: &Binding<'_>, port: &Port, text: &str) -> Result<Arc<dyn Sink>> {
    let uri = parse(port, text)?;
    match uri.scheme {
        "file" if !uri.path.is_empty() => {
            Ok(Arc::new(file_sink(Path::new(uri.path), all.settings)))
        }
        "-" => Ok(Arc::new(StdoutSink::new())),
        "stderr" => Ok(Arc::new(StderrSink::new())),
        "null" => Ok(Arc::new(NullSink::new())),
        "kafka" => kafka_sink(all, port, &uri),
        _ => {
            let schemes = "file:PATH, kafka:TOPIC, - (standard output), stderr: or null:";
            let names = ["file", "kafka", "stderr", "null"];
            Err(unknown(port, text, schemes, &names))
        }
    }
}

fn unknown(port: &Port, uri: &str, expected: &str, schemes: &[&str]) -> Error {
    let scheme = uri.split(':').next().unwrap_or(uri);
    let hint = nearest(scheme, schemes.iter().copied());
    Error::usage(format!(
        "port `{}`: expected {expected}, found `{uri}`{hint}",
        port.name
    ))
}
