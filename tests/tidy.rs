//! The rules of the house that no compiler knows, checked over every Rust file of the tree.
//!
//! Each kind of finding is a promise to the reader: [`Rule::Layers`] that a layer can be understood
//! without those below it in [`LAYERS`]; [`Rule::Size`] that a file is one idea and a function one
//! thought; [`Rule::Leftover`] that nothing was left for later; [`Rule::Name`] that a module is
//! called what it is; [`Rule::Unsafe`] which files to audit; [`Rule::Codec`] that one
//! file knows the bytes of state; [`Rule::Dataflow`] that a job reads at one glance.
//!
//! The rules are functions of a path and a text, so that the tests can plant a violation of each.
//! They see code without its comments and strings, and no types: what a macro writes escapes them.

use std::fmt;
use std::fs;
use std::path::Path;

/// From the top to the bottom: a layer uses only those before it.
const LAYERS: [&str; 13] = [
    "error",
    "time",
    "event",
    "observe",
    "state",
    "stream",
    "operators",
    "connectors",
    "runtime",
    "broker",
    "job",
    "cli",
    "testing",
];
const FOLDERS: [&str; 5] = ["src", "dataflows", "tests", "benches", "examples"];
const BANNED_NAMES: [&str; 5] = ["utils", "common", "helpers", "core", "types"];
/// The connector, and the loop that a bench holds it against.
const UNSAFE_FILES: [&str; 2] = ["src/connectors/kafka/client.rs", "benches/kafka/plain.rs"];
const CODEC_FILE: &str = "src/state/codec.rs";

const MAX_COLUMNS: usize = 100;
const MAX_FILE: usize = 400;
const MAX_TEST_FILE: usize = 600;
/// Also of the function that describes a job.
const MAX_FUNCTION: usize = 60;
/// Code of a dataflow's file: the description, and the types that it names.
const MAX_DATAFLOW: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Layers,
    Size,
    Leftover,
    Name,
    Unsafe,
    Codec,
    Dataflow,
}

#[derive(Debug)]
struct Finding {
    path: String,
    line: usize,
    rule: Rule,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {:?}: {}",
            self.path, self.line, self.rule, self.message
        )
    }
}

/// A file, as written and as code alone.
struct File<'a> {
    path: &'a str,
    lines: Vec<&'a str>,
    /// The text with comments and the insides of strings blanked; every line stays where it is.
    code: String,
    /// How many lines stand before the test module that ends the file.
    own_lines: usize,
}

impl<'a> File<'a> {
    fn new(path: &'a str, text: &'a str) -> Self {
        let code = code_alone(text);
        let lines: Vec<_> = text.lines().collect();
        let own_lines = test_module_at(&code).map_or(lines.len(), |at| line_of(&code, at) - 1);
        Self {
            path,
            lines,
            code,
            own_lines,
        }
    }

    /// The code before the test module.
    fn own_code(&self) -> &str {
        let end = self
            .code
            .split_inclusive('\n')
            .take(self.own_lines)
            .map(str::len)
            .sum();
        &self.code[..end]
    }

    /// Whether the whole file is a test: `tests.rs` is a test module that has a file of its own.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
    }

    fn finding(&self, line: usize, rule: Rule, message: impl Into<String>) -> Finding {
        Finding {
            path: self.path.to_owned(),
            line,
            rule,
            message: message.into(),
        }
    }
}

/// All that is wrong with one file.
fn check(path: &str, text: &str) -> Vec<Finding> {
    let file = File::new(path, text);
    let mut found = layers(&file);
    found.extend(file_size(&file));
    found.extend(columns(&file));
    found.extend(function_sizes(&file));
    found.extend(leftovers(&file));
    found.extend(names(&file));
    found.extend(unsafe_code(&file));
    found.extend(codec(&file));
    found.extend(dataflow_size(&file));
    found
}

// ---------------------------------------------------------------------------------------- layers

fn layers(file: &File<'_>) -> Vec<Finding> {
    let Some(module) = module_path(file.path) else {
        return Vec::new();
    };
    if file.is_test() {
        return Vec::new();
    }
    let Some(own) = rank(module[0]) else {
        return vec![file.finding(1, Rule::Layers, format!("`{}` is no layer", module[0]))];
    };
    let code = file.own_code();
    let mut found = Vec::new();
    for (at, name, sure) in names_at_root(code, module.len()) {
        let message = match rank(name) {
            Some(other) if other <= own => continue,
            Some(_) => format!("`{}` stands above `{name}` and may not use it", LAYERS[own]),
            None if sure => format!("`crate::{name}` does not say of which layer it is"),
            None => continue,
        };
        found.push(file.finding(line_of(code, at), Rule::Layers, message));
    }
    found
}

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|name| *name == layer)
}

/// `src/state/table.rs` is `[state, table]`; nothing for files that belong to no layer.
fn module_path(path: &str) -> Option<Vec<&str>> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    if inside == "lib" || inside == "main" || inside.starts_with("bin/") {
        return None;
    }
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    Some(inside.split('/').collect())
}

/// The first names of all paths that start at the root of the crate, and where they stand: by
/// `crate::`, or by as many `super::` as the module is deep. The latter may also stand in a module
/// inside the file and mean something else, hence not sure.
fn names_at_root(code: &str, depth: usize) -> Vec<(usize, &str, bool)> {
    let supers = "super::".repeat(depth);
    let mut found = Vec::new();
    for (at, word) in words(code) {
        let root = match word {
            "crate" => "crate::",
            "super" if !code[..at].ends_with("super::") => supers.as_str(),
            _ => continue,
        };
        if let Some(path) = code[at..].strip_prefix(root) {
            found.extend(first_names(path).map(|name| (at, name, word == "crate")));
        }
    }
    found
}

/// `time::Epoch` has `time` first; `{time::Epoch, state}` has `time` and `state`.
fn first_names(path: &str) -> impl Iterator<Item = &str> {
    let parts = match path.strip_prefix('{') {
        Some(group) => top_level_parts(&group[..matching_brace(path, 0).map_or(0, |end| end - 1)]),
        None => vec![path],
    };
    let first = |part: &&str| !part.is_empty() && *part != "self";
    parts
        .into_iter()
        .map(|part| first_name(part.trim_start()))
        .filter(first)
}

/// The parts between the commas that stand in no inner group.
fn top_level_parts(group: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    group
        .split(move |c| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        })
        .collect()
}

// ----------------------------------------------------------------------------------------- sizes

fn file_size(file: &File<'_>) -> Option<Finding> {
    let limit = if file.is_test() {
        MAX_TEST_FILE
    } else {
        MAX_FILE
    };
    let message = format!(
        "{} lines without its test module, limit {limit}",
        file.own_lines
    );
    (file.own_lines > limit).then(|| file.finding(limit + 1, Rule::Size, message))
}

fn columns(file: &File<'_>) -> Vec<Finding> {
    let widths = file.lines.iter().map(|line| line.chars().count()).zip(1..);
    widths
        .filter(|(width, _)| *width > MAX_COLUMNS)
        .map(|(width, line)| file.finding(line, Rule::Size, format!("{width} columns")))
        .collect()
}

fn function_sizes(file: &File<'_>) -> Vec<Finding> {
    let code = &file.code;
    let mut found = Vec::new();
    for (at, word) in words(code) {
        let Some((name, end)) = (word == "fn").then(|| function(code, at)).flatten() else {
            continue;
        };
        let line = line_of(code, at);
        let length = line_of(code, end) - line + 1;
        if length > MAX_FUNCTION {
            let message = format!("`{name}` has {length} lines, limit {MAX_FUNCTION}");
            found.push(file.finding(line, Rule::Size, message));
        }
    }
    found
}

/// The name of the function whose `fn` stands at `at`, and where its body ends; nothing if this is
/// the type of a function, or a function without a body.
fn function(code: &str, at: usize) -> Option<(&str, usize)> {
    let after = code[at + "fn".len()..].trim_start();
    let name = first_name(after);
    if name.is_empty() {
        return None;
    }
    let mut depth = 0_i32;
    for (offset, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return None,
            '{' if depth == 0 => return Some((name, matching_brace(code, at + offset)?)),
            _ => {}
        }
    }
    None
}

fn dataflow_size(file: &File<'_>) -> Option<Finding> {
    if file.path.strip_prefix("dataflows/")?.contains('/') {
        return None;
    }
    let written = file
        .own_code()
        .lines()
        .filter(|line| !line.trim().is_empty())
        .count();
    let message = format!("{written} lines of code in a dataflow, limit {MAX_DATAFLOW}");
    (written > MAX_DATAFLOW).then(|| file.finding(1, Rule::Dataflow, message))
}

// ---------------------------------------------------------------------------- words that say much

fn leftovers(file: &File<'_>) -> Vec<Finding> {
    if file.is_test() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (line, text) in file.lines.iter().enumerate().take(file.own_lines) {
        for (_, word) in words(text)
            .into_iter()
            .filter(|(_, w)| ["TODO", "FIXME"].contains(w))
        {
            found.push(file.finding(line + 1, Rule::Leftover, word));
        }
    }
    let code = file.own_code();
    for (at, word) in words(code) {
        let after = &code[at + word.len()..];
        if (word == "dbg" && after.starts_with('!'))
            || (word == "unwrap" && after.starts_with("()"))
        {
            found.push(file.finding(line_of(code, at), Rule::Leftover, word));
        }
    }
    found
}

fn names(file: &File<'_>) -> Vec<Finding> {
    let parts = file
        .path
        .split('/')
        .map(|part| part.strip_suffix(".rs").unwrap_or(part));
    let mut used: Vec<_> = parts.map(|part| (1, part)).collect();
    for pair in words(&file.code).windows(2) {
        if pair[0].1 == "mod" {
            used.push((line_of(&file.code, pair[1].0), pair[1].1));
        }
    }
    used.retain(|(_, name)| BANNED_NAMES.contains(name));
    let finding = |(line, name)| {
        file.finding(
            line,
            Rule::Name,
            format!("`{name}` does not say what the module is"),
        )
    };
    used.into_iter().map(finding).collect()
}

fn unsafe_code(file: &File<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let found_words = words(&file.code).into_iter();
    for (at, _) in found_words.filter(|(_, word)| *word == "unsafe") {
        let line = line_of(&file.code, at);
        let after = file.code[at + "unsafe".len()..].trim_start();
        let mut within = UNSAFE_FILES.iter().map(|file| file.trim_end_matches(".rs"));
        if !within.any(|within| file.path.starts_with(within)) {
            let message = format!("only {UNSAFE_FILES:?} may be unsafe");
            found.push(file.finding(line, Rule::Unsafe, message));
        } else if (after.starts_with('{') || after.starts_with("impl"))
            && !has_safety_note(&file.lines[..line - 1])
        {
            found.push(file.finding(line, Rule::Unsafe, "no `// SAFETY:` before it"));
        }
    }
    found
}

fn codec(file: &File<'_>) -> Vec<Finding> {
    if file.path == CODEC_FILE || !file.path.starts_with("src/") || file.is_test() {
        return Vec::new();
    }
    let code = file.own_code();
    let uses = words(code)
        .into_iter()
        .filter(|(_, word)| *word == "bincode");
    let message = format!("only {CODEC_FILE} knows the bytes of state");
    uses.map(|(at, _)| file.finding(line_of(code, at), Rule::Codec, &*message))
        .collect()
}

/// Whether the comment before the statement that goes on after these lines says why it is safe.
fn has_safety_note(before: &[&str]) -> bool {
    let mut lines = before.iter().rev().map(|line| line.trim()).peekable();
    let is_comment = |line: &&str| line.starts_with("//");
    let ends = |line: &&str| line.is_empty() || line.ends_with([';', '{', '}', ',']);
    // The lines above in the same statement: `let x =`.
    while lines
        .next_if(|line| !is_comment(line) && !ends(line))
        .is_some()
    {}
    lines
        .take_while(is_comment)
        .any(|line| line.starts_with("// SAFETY:"))
}

// -------------------------------------------------------------------------------- reading of code

/// Blanks comments to spaces and strings to quotes, so that what remains can be read word by word.
fn code_alone(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (end, blank) = comment_or_string(&chars, at).unwrap_or((at + 1, chars[at]));
        code.extend(
            chars[at..end]
                .iter()
                .map(|c| if *c == '\n' { '\n' } else { blank }),
        );
        at = end;
    }
    code
}

/// Where the comment or string that starts here ends, and what is written in its place.
fn comment_or_string(chars: &[char], at: usize) -> Option<(usize, char)> {
    let next = chars.get(at + 1);
    match chars[at] {
        '/' if next == Some(&'/') => {
            let length = chars[at..].iter().position(|c| *c == '\n');
            Some((length.map_or(chars.len(), |length| at + length), ' '))
        }
        '/' if next == Some(&'*') => Some((block_comment_end(chars, at), ' ')),
        '"' => Some((quoted_end(chars, at), '"')),
        'r' => raw_string_end(chars, at).map(|end| (end, '"')),
        '\'' if next == Some(&'\\') => Some((quoted_end(chars, at), '"')),
        '\'' if chars.get(at + 2) == Some(&'\'') => Some((at + 3, '"')),
        _ => None,
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn quoted_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != chars[start] {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let prefixed = at > 0 && matches!(chars[at - 1], 'b' | 'c');
    let first = at - usize::from(prefixed);
    if first > 0 && is_word(chars[first - 1]) {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    (chars.get(open) == Some(&'"')).then_some(())?;
    let closes = |i: &usize| {
        chars[*i] == '"'
            && chars[i + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes
    };
    Some(
        (open + 1..chars.len())
            .find(closes)
            .map_or(chars.len(), |i| i + 1 + hashes),
    )
}

/// Where the `#[cfg(test)]` of the test module stands, if that module is the end of the file.
fn test_module_at(code: &str) -> Option<usize> {
    let at = code.rfind("\n#[cfg(test)]\n")? + 1;
    let module = at + code[at..].find("\nmod tests {")?;
    let attributes = code[at..module]
        .lines()
        .all(|line| !line.starts_with(is_word));
    let end = matching_brace(code, module + code[module..].find('{')?)?;
    (attributes && code[end + 1..].trim().is_empty()).then_some(at)
}

/// The words of the text, each with the place where it starts.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (start, is_word(c)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                found.push((from, &text[from..at]));
                start = None;
            }
            _ => {}
        }
    }
    found
}

/// The word, or the star of a glob, with which the text starts; empty if it starts otherwise.
fn first_name(text: &str) -> &str {
    if text.starts_with('*') {
        return &text[..1];
    }
    text.split(|c| !is_word(c)).next().unwrap_or_default()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The brace that closes the one at `open`.
fn matching_brace(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(open + at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

// --------------------------------------------------------------------------------------- the tree

/// Calls `visit` with the path from the root and the text of each Rust file under `folder`.
fn each_file(root: &Path, folder: &str, visit: &mut impl FnMut(&str, &str)) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return;
    };
    let mut names: Vec<_> = entries
        .map(|e| {
            e.expect("a folder entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    for name in names {
        let path = format!("{folder}/{name}");
        if root.join(&path).is_dir() {
            each_file(root, &path, visit);
        } else if Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "rs")
        {
            visit(
                &path,
                &fs::read_to_string(root.join(&path)).expect("a Rust file"),
            );
        }
    }
}

#[test]
fn the_tree_is_tidy() {
    let (mut found, mut seen) = (Vec::new(), Vec::new());
    for folder in FOLDERS {
        // Cargo runs tests in the package's folder. A path that is compiled in would be that of
        // another clone where clones share what was built.
        each_file(Path::new("."), folder, &mut |path, text| {
            found.extend(check(path, text));
            seen.push(path.to_owned());
        });
    }
    assert!(
        seen.contains(&"tests/tidy.rs".to_owned()),
        "the files were not found: {seen:?}"
    );
    let list: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(
        list.is_empty(),
        "{} findings\n{}",
        list.len(),
        list.join("\n")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts that the text breaks these rules at these lines, and no other.
    #[track_caller]
    fn assert_found(path: &str, text: &str, expected: &[(Rule, usize)]) {
        let found = check(path, text);
        let short: Vec<_> = found
            .iter()
            .map(|finding| (finding.rule, finding.line))
            .collect();
        assert_eq!(short, expected, "{path}: {found:#?}");
    }

    /// A test module, in which almost anything goes.
    const IN_TESTS: &str = concat!(
        "fn f() {}\n\n#[cfg(test)]\nmod tests {\n",
        "    use crate::runtime::Worker;\n",
        "    // TODO\n",
        "    fn g() { x.unwrap() }\n}\n",
    );

    #[test]
    fn finds_a_use_of_a_lower_layer() {
        let found = [(Rule::Layers, 1)];
        assert_found("src/time/epoch.rs", "use crate::state::Table;\n", &found);
        assert_found(
            "src/time/epoch.rs",
            "use crate::{error::Error, runtime::{self, cli}};",
            &found,
        );
        assert_found(
            "src/time/epoch.rs",
            "fn f() -> crate::event::Position { g() }\n",
            &found,
        );
        assert_found("src/time/mod.rs", "use super::state::Table;\n", &found);
        assert_found(
            "src/time/epoch.rs",
            "use super::super::{state::Table};\n",
            &found,
        );
        assert_found("src/error.rs", "\nuse crate::*;\n", &[(Rule::Layers, 2)]);
        assert_found("src/error.rs", "use crate::Stream;\n", &found);
        assert_found("src/clock.rs", "fn f() {}\n", &found);
    }

    #[test]
    fn lets_a_layer_use_those_above_it() {
        for text in [
            "use crate::{error::{Error, ErrorKind}, time::Epoch, event};\n",
            "use crate::operators::window::Window;\nuse super::window::runtime;\n",
            "pub(crate) fn f() {}\n// crate::runtime\nconst TEXT: &str = \"crate::runtime\";\n",
            "/* /* */ crate::cli */ const C: char = '\"'; /* '\"' crate::cli */\n",
            "const TEXT: &str = r#\"a \" crate::cli\"#;\nfn f<'a>(x: &'a str) -> &'a str { x }\n",
            IN_TESTS,
        ] {
            assert_found("src/operators/dedup.rs", text, &[]);
        }
        assert_found("src/lib.rs", "pub use crate::job::Job;\n", &[]);
        assert_found("src/bin/anabranch.rs", "use crate::demo::run;\n", &[]);
    }

    #[test]
    fn finds_what_is_too_long() {
        let line = |columns: usize| format!("// {}\n", "é".repeat(columns - 3));
        assert_found("src/job.rs", &line(100), &[]);
        assert_found("src/job.rs", &line(101), &[(Rule::Size, 1)]);
        assert_found("src/job.rs", &"\n".repeat(400), &[]);
        assert_found("src/job.rs", &"\n".repeat(401), &[(Rule::Size, 401)]);
        assert_found(
            "src/job.rs",
            &format!("{}{IN_TESTS}", "\n".repeat(398)),
            &[],
        );
        assert_found("tests/job.rs", &"\n".repeat(600), &[]);
        assert_found("tests/job.rs", &"\n".repeat(601), &[(Rule::Size, 601)]);
        let function = |lines: usize| {
            format!(
                "fn f(x: [u8; 2]) -> fn(u8) {{\n{}}}\n",
                "{ '}'; \"}\" };\n".repeat(lines - 2)
            )
        };
        assert_found("src/job.rs", &function(60), &[]);
        assert_found(
            "src/job.rs",
            &format!("\n{}", function(61)),
            &[(Rule::Size, 2)],
        );
        // A description has 60 lines, whatever its file has beside it.
        assert_found("dataflows/a.rs", &function(60), &[]);
        assert_found("dataflows/a.rs", &function(61), &[(Rule::Size, 1)]);
        assert_found("dataflows/a.rs", &"x;\n\n// y\n".repeat(100), &[]);
        assert_found(
            "dataflows/a.rs",
            &"x;\n".repeat(101),
            &[(Rule::Dataflow, 1)],
        );
    }

    #[test]
    fn finds_what_was_left_for_later() {
        let found = [(Rule::Leftover, 1)];
        assert_found("src/job.rs", "// TODO: more\n", &found);
        assert_found("benches/job.rs", "/// FIXME\n", &found);
        assert_found("examples/job.rs", "fn f() { dbg!(x) }\n", &found);
        assert_found("dataflows/job.rs", "fn f() { x.unwrap() }\n", &found);
        assert_found(
            "src/state/slots.rs",
            &format!("{IN_TESTS}\nfn f() {{}}\n"),
            &[(Rule::Layers, 5), (Rule::Leftover, 6), (Rule::Leftover, 7)],
        );
        assert_found(
            "src/job.rs",
            "//! x.unwrap()\nfn f() { x.unwrap_or(\"dbg!()\") }\n",
            &[],
        );
        assert_found("tests/job.rs", "// TODO\nfn f() { x.unwrap() }\n", &[]);
    }

    #[test]
    fn finds_a_name_that_says_nothing() {
        assert_found("tests/common/mod.rs", "", &[(Rule::Name, 1)]);
        assert_found("src/state/utils.rs", "", &[(Rule::Name, 1)]);
        assert_found("src/state/mod.rs", "\nmod types;\n", &[(Rule::Name, 2)]);
        assert_found("src/state/mod.rs", "use core::fmt;\nmod type_codec;\n", &[]);
    }

    #[test]
    fn finds_unsafe_code_in_the_wrong_place_or_without_a_reason() {
        let bare = "fn f() {\n    let x =\n        unsafe { g() };\n}\n";
        let noted = bare.replace("    let", "    // SAFETY: it is,\n    // truly.\n    let");
        assert_found("src/state/table.rs", &noted, &[(Rule::Unsafe, 5)]);
        assert_found(UNSAFE_FILES[0], bare, &[(Rule::Unsafe, 3)]);
        assert_found(UNSAFE_FILES[0], &noted, &[]);
        let apart = noted.replace("truly.\n", "truly.\n    let y = 1;\n");
        assert_found(UNSAFE_FILES[0], &apart, &[(Rule::Unsafe, 6)]);
        assert_found("src/lib.rs", "#![deny(unsafe_code)]\n// unsafe\n", &[]);
    }

    #[test]
    fn finds_who_else_knows_the_bytes_of_state() {
        let uses = "\nuse bincode::serde;\n";
        assert_found("src/state/table.rs", uses, &[(Rule::Codec, 2)]);
        assert_found(CODEC_FILE, uses, &[]);
        let in_tests = format!("fn f() {{}}\n\n#[cfg(test)]\nmod tests {{{uses}}}\n");
        assert_found("src/state/table.rs", &in_tests, &[]);
        assert_found("src/state/table.rs", "// as bincode has it\n", &[]);
    }
}
