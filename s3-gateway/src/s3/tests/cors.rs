//! Requests of other origins: preflights without signature, and what answers say to browsers.

use super::client::{Answer, Ask};
use super::{Edge, edge};

const RULES: &str = "<CORSConfiguration><CORSRule><ID>a</ID><AllowedOrigin>https://a.example</AllowedOrigin>\
    <AllowedMethod>PUT</AllowedMethod><AllowedMethod>GET</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader>\
    <ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule>\
    <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

fn set(rules: &str) -> Ask {
    Ask { body: rules.as_bytes().to_vec(), ..Ask::new("PUT", "/box").query("cors=") }
}

async fn preflight(edge: &Edge, path: &str, origin: &str, method: &str, headers: &str) -> Answer {
    let ask = Ask { secret: None, ..Ask::new("OPTIONS", path) }.with("origin", origin);
    let ask = if method.is_empty() { ask } else { ask.with("access-control-request-method", method) };
    let ask = if headers.is_empty() { ask } else { ask.with("access-control-request-headers", headers) };
    ask.send(edge.addr).await
}

fn allowed(answer: &Answer) -> (Option<&str>, Option<&str>) {
    (answer.header("access-control-allow-origin"), answer.header("access-control-allow-credentials"))
}

#[tokio::test]
async fn preflights_are_answered_by_the_rules_without_a_signature() {
    let edge = edge().await;
    let (a, b) = ("https://a.example", "https://b.example");
    assert_eq!(preflight(&edge, "/box/k", a, "PUT", "").await.code(), "AccessForbidden");
    assert_eq!(set(RULES).send(edge.addr).await.status, 200);
    let put = preflight(&edge, "/box/k", a, "PUT", "X-Amz-Date, x-amz-meta-a").await;
    assert_eq!((put.status, allowed(&put)), (200, (Some(a), Some("true"))), "{put:?}");
    assert_eq!(put.header("access-control-allow-methods"), Some("put, get"));
    assert_eq!(put.header("access-control-allow-headers"), Some("x-amz-date, x-amz-meta-a"));
    assert_eq!(
        (put.header("access-control-max-age"), put.header("access-control-expose-headers")),
        (Some("60"), Some("etag"))
    );
    assert!(put.header("vary").is_some_and(|vary| vary.contains("origin")) && put.body.is_empty());
    // Whoever lets everybody in lets nobody in with credentials.
    let get = preflight(&edge, "/box/k", b, "GET", "").await;
    assert_eq!((get.status, allowed(&get)), (200, (Some("*"), None)), "{get:?}");
    for (origin, method, headers, status, code) in [
        (b, "PUT", "", 403, "AccessForbidden"),
        (a, "PUT", "x-other", 403, "AccessForbidden"),
        (a, "DELETE", "", 403, "AccessForbidden"),
        (a, "PATCH", "", 400, "BadRequest"),
        (a, "", "", 400, "BadRequest"),
    ] {
        let answer = preflight(&edge, "/box/k", origin, method, headers).await;
        assert_eq!(
            (answer.status, answer.code().as_str(), allowed(&answer)),
            (status, code, (None, None)),
            "{answer:?}"
        );
        assert!(answer.header("vary").is_some() && answer.header("x-amz-request-id").is_some());
    }
    // Strangers do not learn which buckets there are.
    for path in ["/no-such-bucket/k", "/", "/UPPER/k", "/%ff/k"] {
        assert_eq!(preflight(&edge, path, a, "GET", "").await.code(), "AccessForbidden", "{path}");
    }
    assert_eq!(Ask::new("DELETE", "/box").query("cors=").send(edge.addr).await.status, 204);
    assert_eq!(preflight(&edge, "/box/k", a, "PUT", "").await.code(), "AccessForbidden");
}

#[tokio::test]
async fn answers_say_what_is_allowed_errors_too() {
    let edge = edge().await;
    assert_eq!(set(RULES).send(edge.addr).await.status, 200);
    let from = |ask: Ask, origin: &str| ask.late("origin", origin);
    let put = from(Ask::put("/box/k", b"x"), "https://a.example").send(edge.addr).await;
    assert_eq!((put.status, allowed(&put)), (200, (Some("https://a.example"), Some("true"))), "{put:?}");
    let get = from(Ask::new("GET", "/box/k"), "https://b.example").send(edge.addr).await;
    assert_eq!((get.status, allowed(&get)), (200, (Some("*"), None)));
    for (ask, status) in [
        (Ask { secret: Some("another"), ..Ask::new("GET", "/box/k") }, 403),
        (Ask::new("GET", "/box/absent"), 404),
        (Ask::new("GET", "/box/k").query("x-amz-acl=private"), 400),
    ] {
        let answer = from(ask, "https://a.example").send(edge.addr).await;
        assert_eq!((answer.status, allowed(&answer).0), (status, Some("https://a.example")), "{answer:?}");
    }
    let other = from(Ask::put("/box/k", b"x"), "https://b.example").send(edge.addr).await;
    assert_eq!((other.status, allowed(&other)), (200, (None, None)), "the browser keeps it from the script");
    assert!(other.header("vary").is_some());
    assert!(Ask::new("GET", "/box/k").send(edge.addr).await.header("vary").is_none());
}

#[tokio::test]
async fn rules_that_cannot_be_set_change_nothing() {
    let edge = edge().await;
    assert_eq!(set(RULES).send(edge.addr).await.status, 200);
    let rule = |inner: &str| format!("<CORSConfiguration><CORSRule>{inner}</CORSRule></CORSConfiguration>");
    let good = "<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>";
    for (document, code) in [
        ("<CORSConfiguration/>".to_owned(), "MalformedXML"),
        (
            format!("<CORSConfiguration>{}</CORSConfiguration>", format!("<CORSRule>{good}</CORSRule>").repeat(101)),
            "InvalidRequest",
        ),
        (rule("<AllowedOrigin>*</AllowedOrigin><AllowedMethod>PATCH</AllowedMethod>"), "InvalidRequest"),
        (rule("<AllowedOrigin>a*b*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"), "InvalidRequest"),
        (rule(&format!("{good}<MaxAgeSeconds>-1</MaxAgeSeconds>")), "InvalidRequest"),
        (rule(&format!("{good}<AllowedHeaders>x</AllowedHeaders>")), "MalformedXML"),
        (rule("<AllowedOrigin>*</AllowedOrigin>"), "MalformedXML"),
        ("<CORSConfiguration><CORSRule>".to_owned(), "MalformedXML"),
    ] {
        let answer = set(&document).send(edge.addr).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{document}: {answer:?}");
    }
    let kept = Ask::new("GET", "/box").query("cors=").send(edge.addr).await;
    let text = String::from_utf8(kept.body).unwrap();
    for part in ["<ID>a</ID>", "<AllowedOrigin>https://a.example</AllowedOrigin>", "<MaxAgeSeconds>60</MaxAgeSeconds>"]
    {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn overrides_of_headers_cannot_carry_a_second_header() {
    let edge = edge().await;
    assert_eq!(Ask::put("/box/k", b"x").send(edge.addr).await.status, 200);
    let addr = edge.addr;
    let get = |query: &'static str| async move { Ask::new("GET", "/box/k").query(query).send(addr).await };
    let shown =
        get("response-content-disposition=attachment&response-expires=Thu%2C%2001%20Dec%201994%2016%3A00%3A00%20GMT")
            .await;
    assert_eq!((shown.status, shown.header("content-disposition")), (200, Some("attachment")), "{shown:?}");
    assert_eq!(shown.header("expires"), Some("thu, 01 dec 1994 16:00:00 gmt"));
    for query in
        ["response-content-type=a%0D%0Ax-evil%3A%201", "response-cache-control=a%00", "response-content-language=%0A"]
    {
        let answer = get(query).await;
        // What s3s itself finds wrong it calls InvalidRequest.
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(["InvalidArgument", "InvalidRequest"].contains(&answer.code().as_str()), "{answer:?}");
        assert!(answer.header("x-evil").is_none());
    }
}
