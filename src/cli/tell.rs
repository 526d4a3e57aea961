//! What `describe` says.

use std::fmt::Write;

use serde::Serialize;

use super::args::Output;
use crate::stream::{Description, PortKind};

#[derive(Serialize)]
struct Told<'a> {
    job: &'a str,
    sources: Vec<PortTold<'a>>,
    sinks: Vec<PortTold<'a>>,
    parameters: Vec<ParamTold<'a>>,
    lateness: Vec<LatenessTold<'a>>,
    /// What must stay as it is on a restart with a state directory.
    state: Vec<StateTold<'a>>,
    dataflow: &'a [String],
}

#[derive(Serialize)]
struct StateTold<'a> {
    operator: &'a str,
    stays: &'a str,
}

#[derive(Serialize)]
struct PortTold<'a> {
    name: &'a str,
    holds: &'a str,
    topic: String,
}

#[derive(Serialize)]
struct ParamTold<'a> {
    name: &'a str,
    expects: &'a str,
    default: &'a str,
    help: &'a str,
}

#[derive(Serialize)]
struct LatenessTold<'a> {
    source: &'a str,
    late_when: &'a str,
}

fn told<'a>(job: &'a str, declared: &'a Description) -> Told<'a> {
    let ports = |kind: PortKind| {
        let ports = declared.ports.iter().filter(move |port| port.kind == kind);
        let told = ports.map(|port| PortTold {
            name: &port.name,
            holds: &port.holds,
            topic: port.topic.as_deref().unwrap_or_default().replace('*', job),
        });
        told.collect()
    };
    Told {
        job,
        sources: ports(PortKind::Source),
        sinks: ports(PortKind::Sink),
        parameters: (declared.params.iter())
            .map(|param| ParamTold {
                name: &param.name,
                expects: param.kind,
                default: &param.default,
                help: &param.help,
            })
            .collect(),
        lateness: (declared.lateness.iter())
            .map(|(source, rule)| LatenessTold {
                source,
                late_when: rule,
            })
            .collect(),
        state: (declared.stateful.iter())
            .map(|(operator, stays)| StateTold { operator, stays })
            .collect(),
        dataflow: &declared.steps,
    }
}

/// The description of a job, for people or programs.
pub(super) fn describe(job: &str, declared: &Description, output: Output) -> String {
    let told = told(job, declared);
    match output {
        Output::Json => {
            let json = sonic_rs::to_string_pretty(&told).expect("plain data can be written");
            json + "\n"
        }
        Output::Text => text(&told),
    }
}

fn text(told: &Told<'_>) -> String {
    let mut out = format!("{}\n", told.job);
    let mut line = |line: String| writeln!(out, "{line}").expect("a string takes it");
    for (title, ports) in [("sources", &told.sources), ("sinks", &told.sinks)] {
        line(format!("\n{title}"));
        for port in ports {
            line(format!(
                "  {:<18}{:<18}topic {}",
                port.name, port.holds, port.topic
            ));
        }
    }
    line("\nparameters (--set NAME=VALUE)".to_owned());
    for param in &told.parameters {
        line(format!(
            "  {:<18}{:<18}{}",
            param.name, param.default, param.help
        ));
        line(format!("  {:<18}{:<18}{}", "", "", param.expects));
    }
    line("\nan event is late when".to_owned());
    for lateness in &told.lateness {
        line(format!("  {:<18}{}", lateness.source, lateness.late_when));
    }
    line("\nstays as it is while there is a state directory; all else may change".to_owned());
    for state in &told.state {
        line(format!("  {:<18}{}", state.operator, state.stays));
    }
    line("\ndataflow".to_owned());
    for step in told.dataflow {
        line(format!("  {step}"));
    }
    out
}
