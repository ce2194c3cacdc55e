//! Which elements the documents of protective settings may have. s3s skips elements that it does not know,
//! so a misspelt `RetainUntilDate` would read as "none", and an emptied retention is a request to take it
//! away. Lexical: it looks at the names of start tags only; s3s still reads the document.

/// Sub-resource and the names that its document may have.
const KNOWN: [(&str, &[&str]); 6] = [
    (
        "cors",
        &[
            "CORSConfiguration",
            "CORSRule",
            "AllowedHeader",
            "AllowedMethod",
            "AllowedOrigin",
            "ExposeHeader",
            "ID",
            "MaxAgeSeconds",
        ],
    ),
    ("legal-hold", &["LegalHold", "Status"]),
    (
        "object-lock",
        &["ObjectLockConfiguration", "ObjectLockEnabled", "Rule", "DefaultRetention", "Mode", "Days", "Years"],
    ),
    ("retention", &["Retention", "Mode", "RetainUntilDate"]),
    ("tagging", &["Tagging", "TagSet", "Tag", "Key", "Value"]),
    ("versioning", &["VersioningConfiguration", "Status", "MfaDelete"]),
];

/// The names that the document of one of these sub-resources may have; `None`: any.
pub(crate) fn known<'a>(mut keys: impl Iterator<Item = &'a str>) -> Option<&'static [&'static str]> {
    keys.find_map(|key| KNOWN.iter().find(|(of, _)| *of == key)).map(|(_, names)| *names)
}

/// The first start tag whose name is not among `known`. Comments, CDATA and document types have no use
/// in these documents and could hide a tag: they count as unknown.
pub(crate) fn unknown(document: &[u8], known: &[&str]) -> Option<String> {
    let tags = document.split(|byte| *byte == b'<').skip(1);
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/');
    for tag in tags.filter(|tag| !tag.starts_with(b"/") && !tag.starts_with(b"?xml ")) {
        let name = tag.split(ends).next().unwrap_or_default();
        if !known.iter().any(|known| known.as_bytes() == name) {
            return Some(String::from_utf8_lossy(name.get(..32).unwrap_or(name)).into_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_retention(document: &str) -> Option<String> {
        unknown(document.as_bytes(), known(["retention"].into_iter()).unwrap())
    }

    #[test]
    fn known_elements_pass_however_they_are_written() {
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                   <Mode>GOVERNANCE</Mode><RetainUntilDate\n>2030-01-01T00:00:00Z</RetainUntilDate></Retention>";
        assert_eq!(of_retention(xml), None);
        assert_eq!(of_retention("<Retention/>"), None);
        assert_eq!(of_retention(""), None);
        assert!(known(["versionId", "tagging"].into_iter()).is_some());
        assert!(known(["delete"].into_iter()).is_none());
    }

    #[test]
    fn unknown_and_hidden_elements_are_found() {
        for (document, name) in [
            ("<Retention><Mod>COMPLIANCE</Mod></Retention>", "Mod"),
            ("<Retention><mode>COMPLIANCE</mode></Retention>", "mode"),
            ("<x:Retention/>", "x:Retention"),
            ("<Retention><!-- --></Retention>", "!--"),
            ("<!DOCTYPE a><Retention/>", "!DOCTYPE"),
            ("<Retention><![CDATA[a]]></Retention>", "![CDATA[a]]"),
            ("<?php ?><Retention/>", "?php"),
            ("<Retention><", ""),
        ] {
            assert_eq!(of_retention(document).as_deref(), Some(name), "{document}");
        }
        assert_eq!(of_retention(&format!("<{}>", "x".repeat(1000))).map(|name| name.len()), Some(32));
    }
}
