//! Cross-origin rules of a bucket: what may be set, and which rule lets a request through. Pure.

use serde::{Deserialize, Serialize};

/// Most rules of a bucket.
const CORS_RULES_MAX: usize = 100;
/// Most origins, headers or exposed headers of a rule.
const PATTERNS_MAX: usize = 100;
/// Longest id of a rule, in characters.
const ID_CHARS_MAX: usize = 255;
/// All text of all rules.
const BYTES_MAX: usize = 64 * 1024;
/// Header names that a preflight may ask for; one that asks for more matches no rule.
const ASKED_HEADERS_MAX: usize = 100;

/// Methods that a rule can allow. Append-only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum CorsMethod {
    /// GET.
    Get,
    /// PUT.
    Put,
    /// POST.
    Post,
    /// DELETE.
    Delete,
    /// HEAD.
    Head,
}

impl CorsMethod {
    /// By its name, in capitals.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Get, Self::Put, Self::Post, Self::Delete, Self::Head].into_iter().find(|method| method.name() == name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
            Self::Head => "HEAD",
        }
    }
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CorsRule {
    /// A name for people.
    pub id: Option<String>,
    /// Origins, each with at most one `*`.
    pub origins: Vec<String>,
    /// Methods.
    pub methods: Vec<CorsMethod>,
    /// Headers that a preflight may ask for, each with at most one `*`.
    pub headers: Vec<String>,
    /// Headers of the answer that scripts may read.
    pub expose: Vec<String>,
    /// How long a browser may remember the answer to a preflight, in seconds.
    pub max_age: Option<u32>,
}

/// Why rules can't be set.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CorsError {
    /// Too many, or none.
    #[error("a CORS configuration has 1 to {CORS_RULES_MAX} rules, this one {0}")]
    Rules(usize),
    /// One rule is wrong.
    #[error("CORS rule {0}: {1}")]
    Rule(usize, &'static str),
    /// Too much text.
    #[error("the CORS configuration has {0} bytes of text; {BYTES_MAX} are possible")]
    Bytes(usize),
}

/// Cross-origin rules of a bucket, in order; none: no request of another origin is let through.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cors(Vec<CorsRule>);

/// A rule that lets a request through, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted<'a> {
    /// The rule.
    pub rule: &'a CorsRule,
    /// The origin is let through because all are: it is not to be named, nor to send credentials.
    pub any_origin: bool,
}

impl Cors {
    /// Takes rules that can be set.
    ///
    /// # Errors
    /// [`CorsError`] names the first rule that can't.
    pub fn new(rules: Vec<CorsRule>) -> Result<Self, CorsError> {
        if rules.is_empty() {
            return Err(CorsError::Rules(0));
        }
        let cors = Self(rules);
        cors.check()?;
        Ok(cors)
    }

    /// Checks what came from elsewhere; no rules at all are in order.
    ///
    /// # Errors
    /// As [`Cors::new`].
    pub fn check(&self) -> Result<(), CorsError> {
        if self.0.len() > CORS_RULES_MAX {
            return Err(CorsError::Rules(self.0.len()));
        }
        for (number, rule) in (1..).zip(&self.0) {
            rule.check().map_err(|why| CorsError::Rule(number, why))?;
        }
        let bytes = self.0.iter().flat_map(CorsRule::texts).map(String::len).sum();
        if bytes > BYTES_MAX {
            return Err(CorsError::Bytes(bytes));
        }
        Ok(())
    }

    /// No rules.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules in order.
    pub fn rules(&self) -> &[CorsRule] {
        &self.0
    }

    /// The first rule that lets a request of this origin through. A preflight names the headers it asks for.
    pub fn grant<'a>(
        &self,
        origin: &str,
        method: CorsMethod,
        headers: impl Iterator<Item = &'a str>,
    ) -> Option<Granted<'_>> {
        let asked: Vec<&str> = headers.take(ASKED_HEADERS_MAX + 1).collect();
        if asked.len() > ASKED_HEADERS_MAX {
            return None;
        }
        self.0.iter().find_map(|rule| {
            let pattern = rule.origins.iter().find(|pattern| matches(pattern, origin, u8::eq))?;
            let allowed = |name: &&str| rule.headers.iter().any(|p| matches(p, name, u8::eq_ignore_ascii_case));
            let through = rule.methods.contains(&method) && asked.iter().all(allowed);
            through.then_some(Granted { rule, any_origin: pattern == "*" })
        })
    }
}

impl CorsRule {
    fn texts(&self) -> impl Iterator<Item = &String> {
        self.id.iter().chain(&self.origins).chain(&self.headers).chain(&self.expose)
    }

    fn check(&self) -> Result<(), &'static str> {
        let one_star = |pattern: &String| pattern.bytes().filter(|b| *b == b'*').count() <= 1;
        // Origins and header names go into headers of answers.
        let printable = |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        let token = |text: &String| printable(text) && !text.bytes().any(|b| b",;:\"()<>@/[]?={}\\".contains(&b));
        if self.id.as_ref().is_some_and(|id| id.chars().count() > ID_CHARS_MAX) {
            return Err("its ID is longer than 255 characters");
        }
        if self.origins.is_empty() || self.methods.is_empty() {
            return Err("it needs at least one AllowedOrigin and one AllowedMethod");
        }
        if [&self.origins, &self.headers, &self.expose].iter().any(|list| list.len() > PATTERNS_MAX) {
            return Err("it has more than 100 origins, allowed headers or exposed headers");
        }
        if self.methods.len() > 5 {
            return Err("it names a method twice");
        }
        if !self.origins.iter().all(|origin| printable(origin) && one_star(origin)) {
            return Err("an AllowedOrigin is printable ASCII with at most one *");
        }
        if !self.headers.iter().all(|header| token(header) && one_star(header)) {
            return Err("an AllowedHeader is the name of a header with at most one *");
        }
        if !self.expose.iter().all(|header| token(header) && !header.contains('*')) {
            return Err("an ExposeHeader is the name of a header, without *");
        }
        Ok(())
    }
}

/// Whether a text is what a pattern with at most one `*` says.
fn matches(pattern: &str, text: &str, same: impl Fn(&u8, &u8) -> bool) -> bool {
    let equal = |a: &[u8], b: &[u8]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b));
    let text = text.as_bytes();
    let Some((head, tail)) = pattern.split_once('*') else { return equal(pattern.as_bytes(), text) };
    let (head, tail) = (head.as_bytes(), tail.as_bytes());
    let Some((begin, rest)) = text.split_at_checked(head.len()) else { return false };
    let Some((_, end)) = rest.len().checked_sub(tail.len()).and_then(|at| rest.split_at_checked(at)) else {
        return false;
    };
    equal(head, begin) && equal(tail, end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    fn rule(origins: &[&str], methods: &[CorsMethod], headers: &[&str]) -> CorsRule {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        CorsRule { origins: texts(origins), methods: methods.to_vec(), headers: texts(headers), ..CorsRule::default() }
    }

    #[test]
    fn the_first_rule_that_matches_in_all_respects_is_taken() {
        use CorsMethod::{Delete, Get, Put};
        let cors = Cors::new(vec![
            rule(&["https://a.example"], &[Put], &["x-amz-*", "content-type"]),
            rule(&["https://*.example", "http://localhost:*"], &[Get, Put], &[]),
            rule(&["*"], &[Get], &["*"]),
        ])
        .unwrap();
        let granted = |origin: &str, method, headers: &[&str]| {
            let granted = cors.grant(origin, method, headers.iter().copied())?;
            Some((cors.rules().iter().position(|rule| rule == granted.rule).unwrap(), granted.any_origin))
        };
        assert_eq!(granted("https://a.example", Put, &["X-Amz-Meta-B", "CONTENT-TYPE"]), Some((0, false)));
        assert_eq!(granted("https://a.example", Put, &[]), Some((0, false)));
        assert_eq!(granted("https://a.example", Put, &["x-other"]), None);
        assert_eq!(granted("https://a.example", Get, &["x-other"]), Some((2, true)));
        assert_eq!(granted("https://b.example", Put, &[]), Some((1, false)));
        assert_eq!(granted("http://localhost:8080", Get, &[]), Some((1, false)));
        assert_eq!(granted("null", Get, &[]), Some((2, true)));
        assert_eq!(granted("https://A.EXAMPLE", Put, &[]), None, "origins are compared byte by byte");
        assert_eq!(granted("https://a.example", Delete, &[]), None);
        assert_eq!(granted("https://.example", Put, &[]), Some((1, false)));
        assert_eq!(granted("https:/.example", Put, &[]), None);
        assert_eq!(granted("x", Get, &["a"; 100]), Some((2, true)));
        assert_eq!(granted("x", Get, &["a"; 101]), None);
        assert!(Cors::default().grant("x", Get, std::iter::empty()).is_none());
    }

    #[test]
    fn rules_that_cannot_be_set_are_refused_by_number() {
        let good = || rule(&["*"], &[CorsMethod::Get], &["*"]);
        assert!(Cors::new(vec![good(); 100]).is_ok());
        assert_eq!(Cors::new(vec![good(); 101]), Err(CorsError::Rules(101)));
        assert_eq!(Cors::new(vec![]), Err(CorsError::Rules(0)));
        assert!(Cors::default().check().is_ok());
        let long = "é".repeat(255);
        assert!(Cors::new(vec![CorsRule { id: Some(long.clone()), ..good() }]).is_ok());
        for bad in [
            CorsRule { id: Some(format!("{long}a")), ..good() },
            CorsRule { methods: vec![], ..good() },
            CorsRule { methods: vec![CorsMethod::Get; 6], ..good() },
            rule(&[], &[CorsMethod::Get], &[]),
            rule(&["http://*.*.example"], &[CorsMethod::Get], &[]),
            rule(&["http://a\r\nx: y"], &[CorsMethod::Get], &[]),
            rule(&["a b"], &[CorsMethod::Get], &[]),
            rule(&[""], &[CorsMethod::Get], &[]),
            rule(&["*"], &[CorsMethod::Get], &["x-*-*"]),
            rule(&["*"], &[CorsMethod::Get], &["a,b"]),
            rule(&["*"; 101], &[CorsMethod::Get], &[]),
            CorsRule { expose: vec!["x-*".into()], ..good() },
            CorsRule { expose: vec!["a\nb".into()], ..good() },
        ] {
            assert!(matches!(Cors::new(vec![good(), bad.clone()]), Err(CorsError::Rule(2, _))), "{bad:?}");
        }
        let fat = rule(&["o".repeat(66_000).as_str()], &[CorsMethod::Get], &[]);
        assert_eq!(Cors::new(vec![fat]), Err(CorsError::Bytes(66_000)));
    }

    proptest! {
        #[test]
        fn a_star_stands_for_any_text(pattern in "[ab]{0,3}\\*?[ab]{0,3}", text in "[ab]{0,8}") {
            let wanted = match pattern.split_once('*') {
                None => pattern == text,
                // Every way to cut the text in three.
                Some((head, tail)) => (0..=text.len()).any(|at| {
                    (at..=text.len()).any(|end| text[..at] == *head && text[end..] == *tail)
                }),
            };
            prop_assert_eq!(matches(&pattern, &text, u8::eq), wanted);
        }
    }
}
