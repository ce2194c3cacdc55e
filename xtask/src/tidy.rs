//! Rules that no compiler knows: headers, lengths, words that don't belong into the sources, links that
//! lead nowhere, tests named in pages that do not exist. Called by `verify`; reads, never writes.

use anyhow::Result;

use crate::root::{files, root, text};

/// Lines of code a file may have, tests at its end left out. Longer ones are split by reason to change.
const LINES_MAX: usize = 500;

/// Files that were longer when the rule came, with the lines they had. They may only shrink.
const LONGER: [(&str, usize); 1] = [("rpc/src/meta.rs", 540)];

/// Words that must not be in the sources, and why. Cut in two here, so that this file passes.
const BANNED: [(&str, &str, &str); 10] = [
    ("/wo", "rk/", "a path of one machine"),
    ("/ro", "ot/", "a path of one machine"),
    ("/ho", "me/", "a path of one machine"),
    ("pypi", ".org", "a registry's host; packages are named, not located"),
    ("npmjs", ".", "a registry's host; packages are named, not located"),
    ("static.cra", "tes.io", "a registry's host; packages are named, not located"),
    ("index.cra", "tes.io", "a registry's host; packages are named, not located"),
    ("deb.deb", "ian.org", "a registry's host; packages are named, not located"),
    ("FIX", "ME", "write an issue"),
    ("XX", "X:", "write an issue"),
];

/// Pages whose backticked names of tests must exist.
const PAGES_OF_TESTS: [&str; 2] = ["README.md", "docs/invariants.md"];

/// Everything that breaks a rule.
///
/// # Errors
/// If the sources can't be read.
pub(crate) fn findings() -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let mut sources = Vec::new();
    for name in files()? {
        if name == "Cargo.lock" || name == "LICENSE" || name.starts_with("fuzz/corpus/") {
            continue;
        }
        let Some(text) = text(&name)? else { continue };
        banned_words(&name, &text, &mut findings);
        if name.ends_with(".rs") {
            // Unit tests beside their module need no words of their own.
            let beside = name.ends_with("/tests.rs");
            if !beside {
                header(&name, &text, &mut findings);
            }
            length(&name, &text, &mut findings);
        }
        if name.ends_with(".py") && !python_header(&text) {
            findings.push(format!("{name}: has no docstring that says what it is for"));
        }
        if name.ends_with(".md") {
            links(&name, &text, &mut findings);
        }
        sources.push((name, text));
    }
    named_tests(&sources, &mut findings);
    Ok(findings)
}

fn banned_words(name: &str, text: &str, findings: &mut Vec<String>) {
    for (number, line) in text.lines().enumerate() {
        for (head, tail, why) in BANNED {
            if stands_in(line, &format!("{head}{tail}")) {
                findings.push(format!("{name}:{}: {head}{tail}: {why}", number + 1));
            }
        }
        let todo = concat!("TO", "DO");
        if line.contains(todo) && !line.contains(&format!("{todo}(#")) {
            findings.push(format!("{name}:{}: {todo} needs the number of an issue: {todo}(#123)", number + 1));
        }
    }
}

/// Whether the word is there other than inside a longer path.
fn stands_in(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|before: char| before.is_ascii_alphanumeric()))
}

fn header(name: &str, text: &str, findings: &mut Vec<String>) {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let documented = lines.find(|line| !line.starts_with("#![")).is_some_and(|line| line.starts_with("//!"));
    if !documented {
        findings.push(format!("{name}: does not begin with //! and what the file is for"));
    }
}

fn python_header(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.next().is_none_or(|line| line.starts_with("\"\"\""))
}

/// Lines before the tests at the end of a file; none of a file that is all tests.
fn lines_of_code(name: &str, text: &str) -> usize {
    let all_tests = name.contains("/tests/") || name.ends_with("tests.rs") || name.contains("_test");
    if all_tests { 0 } else { text.lines().take_while(|line| *line != "#[cfg(test)]").count() }
}

fn length(name: &str, text: &str, findings: &mut Vec<String>) {
    let lines = lines_of_code(name, text);
    let known = LONGER.iter().find(|(longer, _)| *longer == name).map_or(LINES_MAX, |(_, lines)| *lines);
    if lines > known {
        findings.push(format!("{name}: {lines} lines, at most {known}; split it by reason to change"));
    }
}

/// Targets of `[text](target)` that are meant to be files of this repository.
fn links(name: &str, text: &str, findings: &mut Vec<String>) {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    for piece in text.split("](").skip(1) {
        let target = piece.split([')', '#', ' ']).next().unwrap_or_default();
        if target.is_empty() || target.contains("://") {
            continue;
        }
        if !root().join(folder).join(target).exists() {
            findings.push(format!("{name}: links to {target}, which is not there"));
        }
    }
}

fn named_tests(sources: &[(String, String)], findings: &mut Vec<String>) {
    for (name, text) in sources.iter().filter(|(name, _)| PAGES_OF_TESTS.contains(&name.as_str())) {
        for test in names_of_tests(text) {
            let defined =
                |source: &str| source.contains(&format!("fn {test}(")) || source.contains(&format!("def {test}("));
            let code = sources.iter().filter(|(name, _)| name.ends_with(".rs") || name.ends_with(".py"));
            if !code.into_iter().any(|(_, source)| defined(source)) {
                findings.push(format!("{name}: names the test {test}, which is not there"));
            }
        }
    }
}

/// Backticked names long enough to be a sentence: those are tests.
fn names_of_tests(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    quoted.filter(is_name).filter(|word| word.matches('_').count() >= 3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_and_open_ends_are_found() {
        let mut findings = Vec::new();
        let text = format!("see {}{}x\n{}{}: later\nfine\n", "/wo", "rk/", "TO", "DO");
        banned_words("a.md", &text, &mut findings);
        assert!(findings.len() == 2 && findings[0].contains("a.md:1"), "{findings:?}");
        findings.clear();
        banned_words("a.md", &format!("src{}{}x\n", "/wo", "rk/"), &mut findings);
        banned_words("a.md", &format!("{}{}(#12): later\n", "TO", "DO"), &mut findings);
        assert_eq!(findings, [""; 0]);
    }

    #[test]
    fn a_file_without_header_is_found() {
        let mut findings = Vec::new();
        header("a.rs", "#![no_main]\n//! What for.\n", &mut findings);
        assert_eq!(findings, [""; 0]);
        header("a.rs", "use std::fmt;\n", &mut findings);
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let text = "//! x\nfn a() {}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(lines_of_code("a/src/lib.rs", text), 2);
        assert_eq!(lines_of_code("a/src/lib/tests.rs", text), 0);
        let mut findings = Vec::new();
        length("a/src/lib.rs", &"x\n".repeat(LINES_MAX + 1), &mut findings);
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn a_page_may_only_name_tests_that_exist() {
        let page = "`a_named_test_here` and `another_one_is_missing` and `cargo verify` and `put_object`";
        let source = "#[test]\nfn a_named_test_here() {}\n";
        let sources = [("README.md".to_owned(), page.to_owned()), ("a/src/x.rs".to_owned(), source.to_owned())];
        let mut findings = Vec::new();
        named_tests(&sources, &mut findings);
        assert!(findings.len() == 1 && findings[0].contains("another_one_is_missing"), "{findings:?}");
    }
}
