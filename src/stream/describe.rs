//! What a job says of itself: ports, parameters, the lateness rule, the steps.

use std::any::TypeId;
use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// The name of a type without the paths in it: `(String, i64)`.
pub(crate) fn short_name(mut name: &str) -> String {
    let mut short = String::new();
    while let Some(at) = name.find("::") {
        let before = &name[..at];
        let path = before.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
        short.push_str(path);
        name = &name[at + 2..];
    }
    short + name
}

/// A parameter, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParamText {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) default: String,
    pub(crate) help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortKind {
    Source,
    Sink,
}

/// A port that has to be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) kind: PortKind,
    /// The type that flows there: its short name, and what it is.
    pub(crate) holds: String,
    pub(crate) of: TypeId,
    /// The topic that it means when only a broker is named.
    pub(crate) topic: Option<String>,
}

/// Everything that a description declared.
#[derive(Debug, Default)]
pub(crate) struct Description {
    pub(crate) ports: Vec<Port>,
    pub(crate) params: Vec<ParamText>,
    pub(crate) steps: Vec<String>,
    /// Source and its rule for lateness, in words.
    pub(crate) lateness: Vec<(String, String)>,
    pub(crate) errors: Vec<Error>,
    /// How many operators have each name.
    pub(crate) operators: BTreeMap<String, usize>,
    /// Operators that keep state, and what of their description must not change under it.
    pub(crate) stateful: Vec<(String, String)>,
}

impl Description {
    pub(crate) fn declare(&mut self, param: ParamText) -> Result {
        match self.params.iter().find(|known| known.name == param.name) {
            None => self.params.push(param),
            Some(known) if known.default == param.default => {}
            Some(known) => {
                return Err(Error::usage(format!(
                    "parameter `{}` is declared twice, with defaults {} and {}",
                    known.name, known.default, param.default
                )));
            }
        }
        Ok(())
    }

    /// Names of its sinks.
    pub(crate) fn sinks(&self) -> impl Iterator<Item = &str> {
        let sinks = self.ports.iter().filter(|port| port.kind == PortKind::Sink);
        sinks.map(|port| port.name.as_str())
    }

    /// Declares a port; returns its number among those of its kind.
    pub(crate) fn port(&mut self, port: Port) -> usize {
        if self
            .ports
            .iter()
            .any(|known| known.name == port.name && known.kind == port.kind)
        {
            self.errors.push(Error::usage(format!(
                "port `{}` is declared twice",
                port.name
            )));
        }
        let kind = port.kind;
        self.ports.push(port);
        self.ports.iter().filter(|port| port.kind == kind).count() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_keep_what_is_not_a_path() {
        assert_eq!(short_name("i64"), "i64");
        assert_eq!(short_name("a::b::C"), "C");
        let long = "(alloc::string::String, core::option::Option<x_1::Y>)";
        assert_eq!(short_name(long), "(String, Option<Y>)");
    }
}
