//! The little XML a client must read: elements without attributes, as S3 answers them.

/// Text of the first `<name>` element, entities resolved.
pub(crate) fn text(xml: &str, name: &str) -> Option<String> {
    elements(xml, name).next().map(unescape)
}

/// Inner XML of each `<name>` element, in order. Not for elements nested in their own kind.
pub(crate) fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let from = rest.find(&open)? + open.len();
        let len = rest[from..].find(&close)?;
        let inner = &rest[from..from + len];
        rest = &rest[from + len + close.len()..];
        Some(inner)
    })
}

/// Resolves the five predefined entities and decimal or hex character references.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let (entity, after) = rest[at + 1..].split_once(';').unwrap_or((&rest[at + 1..], ""));
        out.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => numeric(entity).unwrap_or(char::REPLACEMENT_CHARACTER),
        });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Text as it stands in a document.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn numeric(entity: &str) -> Option<char> {
    let digits = entity.strip_prefix('#')?;
    let code = match digits.strip_prefix('x') {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_entities() {
        let xml = "<R><C><Key>a&amp;b</Key></C><C><Key>&#x41;</Key></C><More>true</More></R>";
        let keys: Vec<_> = elements(xml, "C").filter_map(|c| text(c, "Key")).collect();
        assert_eq!(keys, ["a&b", "A"]);
        assert_eq!(text(xml, "More").as_deref(), Some("true"));
        assert_eq!(text(xml, "None"), None);
        assert_eq!(unescape(&escape("a&<b>&amp;")), "a&<b>&amp;");
    }
}
