use super::*;

#[test]
fn digest_lists_have_one_form() {
    let digest = "ab".repeat(32);
    let good = format!("{digest}  data/a\n{digest}  data/b/c\n");
    let read = parse_digests(good.as_bytes(), true).unwrap();
    assert_eq!((read.len(), print_digests(&read)), (2, good.clone()));
    assert_eq!(parse_digests(b"", true), Ok(Digests::new()));
    for (text, line, fault) in [
        (good.replace("  ", " "), 1, LineFault::Shape),
        (good.replace("  ", " *"), 1, LineFault::Shape),
        (good.replace("  ", "   "), 1, LineFault::Name(NameFault::Character)),
        (good.replace("ab", "AB"), 1, LineFault::Shape),
        (good.replacen("ab", "", 1), 1, LineFault::Shape),
        (good.replace('\n', "\r\n"), 1, LineFault::Text),
        (good.trim_end().to_owned(), 2, LineFault::Text),
        (format!("{good}\n"), 3, LineFault::Shape),
        (good.replace("b/c", "a"), 2, LineFault::Twice),
        (good.replace("data/b/c", "bagit.txt"), 2, LineFault::Place),
        (good.replace("data/b/c", "data/../c"), 2, LineFault::Name(NameFault::Part)),
        (good.replace("data/b/c", "data/%0a"), 2, LineFault::Name(NameFault::Character)),
    ] {
        assert_eq!(parse_digests(text.as_bytes(), true), Err(LineError { line, fault }), "{text}");
    }
    let many: String = (0..=FILES_MAX).map(|n| format!("{digest}  data/{n}\n")).collect();
    let fault = LineFault::TooMany;
    assert_eq!(parse_digests(many.as_bytes(), true), Err(LineError { line: FILES_MAX + 1, fault }));
    assert_eq!(parse_digests(b"\xff\n", true), Err(LineError { line: 2, fault: LineFault::Text }));
}

#[test]
fn what_a_bag_says_of_itself() {
    assert_eq!(parse_info(b""), Ok(None));
    assert_eq!(parse_info(b"Contact-Name: A\n  B: C\nPayload-Oxum: 12.3\n"), Ok(Some((12, 3))));
    for (text, line, fault) in [
        ("Payload-Oxum: 12\n", 1, LineFault::Oxum),
        ("Payload-Oxum: 012.3\n", 1, LineFault::Oxum),
        ("Payload-Oxum: 12.3.4\n", 1, LineFault::Oxum),
        ("payload-oxum: 1.1\nPayload-Oxum: 1.1\n", 2, LineFault::Oxum),
        ("Label\n", 1, LineFault::Label),
        ("Label:value\n", 1, LineFault::Label),
        ("Label : value\n", 1, LineFault::Label),
        (" continued\n", 1, LineFault::Label),
        ("Label: a\tb\n", 1, LineFault::Text),
        ("Label: value", 1, LineFault::Text),
    ] {
        assert_eq!(parse_info(text.as_bytes()), Err(LineError { line, fault }), "{text}");
    }
}
