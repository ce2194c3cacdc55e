//! The judgement as one page for people: no scripts, nothing loaded from elsewhere, made to be printed
//! and kept in a file. Everything that came with the bundle is escaped.

use super::{ObjectFacts, Report, visible};
use crate::bundle::claims::{Claim, Outcome};

const STYLE: &str = "\
body{font:14px/1.5 'Noto Sans CJK SC','Microsoft YaHei','PingFang SC',sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#111}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:1.8em;border-bottom:1px solid #999}
.verdict{border:3px solid #1a6b2e;padding:.8em 1em;font-size:1.2em;margin:1em 0}.verdict.bad{border-color:#a40000}
.verdict.warn{border-color:#9a6700}.verdict p{margin:.2em 0}
table{border-collapse:collapse;table-layout:fixed;width:100%;font-size:.9em}th,td{border:1px solid #999;padding:.35em .5em;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{background:#eee}tr.differs td{background:#fbe3e3;font-weight:bold}.en{color:#444;font-size:.9em}
code{font-family:'Noto Sans Mono CJK SC',Consolas,monospace;overflow-wrap:normal}dl{display:grid;grid-template-columns:14em 1fr;gap:.2em 1em}dt{color:#444}dd{margin:0;overflow-wrap:anywhere}
@page{size:A4 landscape;margin:12mm}
@media print{body{margin:0;max-width:none}tr,dl{break-inside:avoid}}
";

/// Text as it may stand in a page: markup escaped, and nothing that turns text around.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Hexadecimal digits in groups of four, as people compare them.
fn grouped(hex: &str) -> String {
    let mut out = String::with_capacity(hex.len() + hex.len() / 4);
    for (at, c) in hex.chars().enumerate() {
        if at > 0 && at % 4 == 0 {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// Chinese above English.
fn both(zh: &str, en: &str) -> String {
    format!("{}<br><span class=\"en\">{}</span>", escaped(zh), escaped(en))
}

fn facts(rows: &[(&str, &str, String)]) -> String {
    let row = |(zh, en, value): &(&str, &str, String)| {
        format!("<dt>{} <span class=\"en\">{}</span></dt><dd>{}</dd>\n", escaped(zh), escaped(en), escaped(value))
    };
    format!("<dl>\n{}</dl>\n", rows.iter().map(row).collect::<String>())
}

fn digests(listed: &[(String, String)]) -> String {
    let row = |(name, hex): &(String, String)| {
        format!("<dt>{}</dt><dd><code>{}</code></dd>\n", escaped(name), escaped(&grouped(hex)))
    };
    format!("<dl>\n{}</dl>\n", listed.iter().map(row).collect::<String>())
}

fn table(claims: &[&Claim]) -> String {
    // Widths in percent, so that short words of narrow columns are not broken.
    let heads = [
        ("核验事项", "claim", 14),
        ("结论", "finding", 11),
        ("依据类别", "class", 9),
        ("说明", "detail", 26),
        ("文件", "file", 13),
        ("算法", "algorithm", 9),
        ("须信任的一方", "trusted party", 9),
        ("时间", "time", 9),
    ];
    let head = |(zh, en, width): &(&str, &str, u8)| format!("<th style=\"width:{width}%\">{}</th>", both(zh, en));
    let heads: String = heads.iter().map(head).collect();
    let rows: String = claims.iter().map(|claim| row(claim)).collect();
    format!("<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n")
}

fn row(claim: &Claim) -> String {
    let class = if claim.outcome == Outcome::Differs { " class=\"differs\"" } else { "" };
    let cells = [
        both(claim.question.zh(), claim.question.en()),
        both(claim.outcome.zh(), claim.outcome.en()),
        both(claim.class.zh(), claim.class.en()),
        both(&claim.detail.zh, &claim.detail.en),
        escaped(&claim.file),
        escaped(claim.algorithm),
        both(&claim.trusted.zh, &claim.trusted.en),
        escaped(&claim.time),
    ];
    let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
    format!("<tr{class}>{cells}</tr>\n")
}

fn object(object: &ObjectFacts, claims: &[Claim]) -> String {
    let of: Vec<&Claim> = claims.iter().filter(|claim| claim.object == Some(object.number)).collect();
    let rows = [
        ("存储桶", "bucket", object.bucket.clone()),
        ("键", "key", object.key.clone()),
        ("版本", "version", object.version.clone()),
        ("事件", "event", object.event.to_owned()),
        ("记录所载时间", "time in the record", object.time.clone()),
        ("字节数", "bytes", object.len.to_string()),
        ("日志序号", "log index", object.index.to_string()),
    ];
    let head = format!("对象 {0} <span class=\"en\">object {0}</span>", object.number);
    format!("<h2>{head}</h2>\n{}{}", facts(&rows), table(&of))
}

impl Report {
    /// A page of its own, in Chinese and English: verdict, claims, digests.
    pub fn to_html(&self) -> String {
        let verdict = self.verdict();
        let class = match (self.consistent(), self.own_policy) {
            (false, _) => "verdict bad",
            (true, false) => "verdict warn",
            (true, true) => "verdict",
        };
        let policy = if self.own_policy {
            "审核方自有 / the auditor's own"
        } else {
            "证据包自带，不能证明签名者身份 / the bundle's, which proves nothing about who signed"
        };
        let rows = [
            ("日志", "log", self.origin.clone()),
            ("证据包制作", "bundle made", format!("{}, {}", self.created, self.tool)),
            ("信任策略", "trust policy", policy.to_owned()),
            ("核验工具", "verifier", self.verifier.to_owned()),
        ];
        let whole: Vec<&Claim> = self.claims.iter().filter(|claim| claim.object.is_none()).collect();
        let objects: String = self.objects.iter().map(|one| object(one, &self.claims)).collect();
        let mut listed = digests(&self.digests);
        for one in &self.objects {
            listed.push_str(&format!("<h3>对象 {0} / object {0}</h3>\n{1}", one.number, digests(&one.digests)));
        }
        format!(
            "<!DOCTYPE html>\n<html lang=\"zh-CN\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <title>电子证据技术核验报告 / Evidence verification report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <h1>电子证据技术核验报告<br><span class=\"en\">Evidence verification report</span></h1>\n\
             <div class=\"{class}\"><p>技术核验结论：{}</p><p class=\"en\">{}</p></div>\n{}\
             <h2>证据包 <span class=\"en\">the bundle as a whole</span></h2>\n{}{objects}\
             <h2>摘要 <span class=\"en\">digests</span></h2>\n{listed}</body>\n</html>\n",
            escaped(&verdict.zh),
            escaped(&verdict.en),
            facts(&rows),
            table(&whole),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_bundle_is_markup() {
        assert_eq!(escaped("<a href=\"x\">&'\u{202e}\n"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\\u{202e}\\u{a}");
        assert_eq!(grouped("0123456789"), "0123 4567 89");
        assert_eq!(grouped(""), "");
    }
}
