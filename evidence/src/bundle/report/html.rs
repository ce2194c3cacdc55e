//! The judgement as one page for people: no scripts, nothing loaded from elsewhere, made to be printed
//! and kept in a file. Everything that came with the bundle is escaped.

use super::{ObjectFacts, Report, visible};
use crate::bundle::claims::{Claim, Outcome, Question};

const STYLE: &str = "\
body{font:14px/1.5 'Noto Sans CJK SC','Microsoft YaHei','PingFang SC',sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#111}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:1.8em;border-bottom:1px solid #999}
.verdict{border:3px solid #1a6b2e;padding:.8em 1em;font-size:1.2em;margin:1em 0}.verdict.bad{border-color:#a40000}
.verdict.warn{border-color:#9a6700}.verdict p{margin:.2em 0}
table{border-collapse:collapse;table-layout:fixed;width:100%;font-size:.9em}th,td{border:1px solid #999;padding:.35em .5em;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{background:#eee}tr.differs td{background:#fbe3e3;font-weight:bold}.en{color:#444;font-size:.9em}
code{font-family:'Noto Sans Mono CJK SC',Consolas,monospace;overflow-wrap:normal}dl{display:grid;grid-template-columns:18em 1fr;gap:.2em 1em}dt{color:#444}dd{margin:0;overflow-wrap:anywhere}
.differing{margin:.5em 0 0;padding-left:1.2em}.whole{white-space:nowrap}.note{font-size:.9em;break-inside:avoid}.sign{margin-top:3em;break-inside:avoid}
@page{size:A4 landscape;margin:12mm 12mm 16mm;@bottom-right{content:counter(page) ' / ' counter(pages);font-size:9pt}}
@media print{body{margin:0;max-width:none}tr,dl{break-inside:avoid}h2,h3{break-after:avoid}}
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

/// What a digest is of, where its name says more than an algorithm.
fn of_what(name: &str) -> &'static str {
    // Names of the report, not of the bundle: see `digests` and `facts` of the verifier.
    let known = [
        ("object root", "对象根 "),
        ("log entry", "日志条目 "),
        ("root of the log", "日志根 "),
        ("hash of block", "区块哈希 "),
    ];
    known.into_iter().find(|(begin, _)| name.starts_with(begin)).map_or("", |(_, zh)| zh)
}

fn digests(listed: &[(String, String)]) -> String {
    let row = |(name, hex): &(String, String)| {
        let (zh, name, hex) = (of_what(name), escaped(name), escaped(&grouped(hex)));
        format!("<dt>{zh}<span class=\"en\">{name}</span></dt><dd><code>{hex}</code></dd>\n")
    };
    format!("<dl>\n{}</dl>\n", listed.iter().map(row).collect::<String>())
}

fn table(claims: &[&Claim]) -> String {
    // Widths in percent, so that short words of narrow columns are not broken.
    let heads = [
        ("核验事项", "claim", 13),
        ("结论", "finding", 11),
        ("依据类别", "class", 9),
        ("说明", "detail", 24),
        ("文件", "file", 12),
        ("算法", "algorithm", 9),
        ("须信任的一方", "trusted party", 13),
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
        time(&claim.time),
    ];
    let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
    format!("<tr{class}>{cells}</tr>\n")
}

/// An event in Chinese; its name in the log stands beside it.
fn event(name: &str) -> &'static str {
    match name {
        "put" => "写入",
        "delete-marker" => "设置删除标记",
        "delete" => "删除",
        "overwrite" => "被新版本取代",
        "retention" => "变更保留期",
        "legal-hold" => "变更依法留存状态",
        _ => "",
    }
}

/// Most claims that the first page names.
const FIRST_PAGE_MAX: usize = 8;

/// The claims that don't hold, so that the first page names them. Digests of one file are one line: bytes that
/// differ make all of them differ.
fn differing(claims: &[Claim]) -> String {
    let mut lines: Vec<(&Claim, Vec<&str>)> = Vec::new();
    for claim in claims.iter().filter(|claim| claim.outcome == Outcome::Differs) {
        let same = |(first, _): &&mut (&Claim, Vec<&str>)| {
            let of = |one: &Claim| (one.question, one.object, one.file.clone());
            claim.question == Question::Digest && of(first) == of(claim)
        };
        match lines.iter_mut().find(same) {
            Some((_, algorithms)) => algorithms.push(claim.algorithm),
            None => lines.push((claim, vec![claim.algorithm])),
        }
    }
    let (all, mut text) = (lines.len(), String::new());
    for (claim, algorithms) in lines.into_iter().take(FIRST_PAGE_MAX) {
        let (en, zh) = if claim.question == Question::Digest {
            (algorithms.join(", "), algorithms.join("、"))
        } else {
            (claim.detail.en.clone(), claim.detail.zh.clone())
        };
        let zh_of = claim.object.map(|object| format!("对象 {object}，")).unwrap_or_default();
        let en_of = claim.object.map(|object| format!("object {object}, ")).unwrap_or_default();
        let file = if claim.file.is_empty() { String::new() } else { format!(" [{}]", claim.file) };
        let zh = format!("{zh_of}“{}”不一致：{zh}{file}", claim.question.zh());
        let en = format!("{en_of}\"{}\" does not hold: {en}{file}", claim.question.en());
        text.push_str(&format!("<li>{}</li>\n", both(&zh, &en)));
    }
    if all > FIRST_PAGE_MAX {
        let more = all - FIRST_PAGE_MAX;
        text.push_str(&format!(
            "<li>{}</li>\n",
            both(&format!("另有 {more} 项，见下表"), &format!("and {more} more, see below"))
        ));
    }
    if text.is_empty() { text } else { format!("<ul class=\"differing\">\n{text}</ul>\n") }
}

/// A time that breaks between date and clock, if it must.
fn time(text: &str) -> String {
    match text.split_once('T') {
        Some((date, clock)) => {
            format!(
                "<span class=\"whole\">{}</span><wbr><span class=\"whole\">T{}</span>",
                escaped(date),
                escaped(clock)
            )
        }
        None => escaped(text),
    }
}

/// What the words of the table mean, and room to sign.
const CLOSING: &str = "\
<p class=\"note\">依据类别：“本次离线核验”指由核验工具在本次离线计算得出；“运营方声明”指仅有运营方陈述，未经证明；“未核验”指证据包不能显示或本次未予检查。<br>
<span class=\"en\">Classes: verified now: computed offline in this very run; asserted by the operator: its word only; not checked: a bundle can't show it, or \
nobody looked.</span></p>
<p class=\"sign\">核验人 <span class=\"en\">examined by</span>：____________________　　日期 <span class=\"en\">date</span>：____________________</p>
";

fn object(object: &ObjectFacts, claims: &[Claim]) -> String {
    let of: Vec<&Claim> = claims.iter().filter(|claim| claim.object == Some(object.number)).collect();
    let rows = [
        ("存储桶", "bucket", object.bucket.clone()),
        ("对象键", "key", object.key.clone()),
        ("版本", "version", object.version.clone()),
        ("事件", "event", format!("{} {}", event(object.event), object.event)),
        ("记录所载时间", "recorded time", object.time.clone()),
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
            (
                "送检文件",
                "file examined",
                self.file.clone().unwrap_or_else(|| "无，仅核验证据包 / none, the bundle alone".to_owned()),
            ),
            ("核验工具", "verifier", self.verifier.to_owned()),
            ("时间", "times", "均为协调世界时（UTC）；北京时间须加 8 小时 / UTC; Beijing is 8 hours ahead".to_owned()),
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
             <div class=\"{class}\"><p>技术核验结论：{}</p><p class=\"en\">{}</p>{}</div>\n{}\
             <h2>证据包 <span class=\"en\">the bundle as a whole</span></h2>\n{}{objects}\
             <h2>完整性校验值 <span class=\"en\">digests</span></h2>\n{listed}{CLOSING}</body>\n</html>\n",
            escaped(&verdict.zh),
            escaped(&verdict.en),
            differing(&self.claims),
            facts(&rows),
            table(&whole),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::claims::Text;
    use crate::bundle::testing::outside::anchored;
    use crate::bundle::testing::{WHOLE, judge, judge_bytes, whole};

    #[test]
    fn the_first_page_names_what_differs() {
        let (bundle, mut bytes) = (whole(false), WHOLE.concat());
        let good = judge_bytes(&bundle, &bytes, None).unwrap().to_html();
        assert!(!good.contains("class=\"differing\""));
        bytes[20] ^= 1;
        let bad = judge_bytes(&bundle, &bytes, None).unwrap();
        let page = bad.to_html();
        let (first, _) = page.split_once("<h2>").unwrap();
        assert!(!first.contains("<table>"));
        assert!(first.contains("对象 1，“数据字节即该对象的字节”不一致：字节 17-28 不一致 [brought.bin]"), "{first}");
        assert!(first.contains("不一致：BLAKE3、MD5 (ETag)、CRC-64/NVME、SHA-256 [brought.bin]"), "{first}");
        assert!(first.contains("<dd>brought.bin</dd>"), "{first}");
        let many: Vec<Claim> = (1..=20)
            .map(|object| Claim {
                object: Some(object),
                ..Claim::differs(Question::Bytes, Text::new("bytes differ", "字节不一致"))
            })
            .collect();
        let listed = differing(&many);
        assert_eq!(listed.matches("<li>").count(), FIRST_PAGE_MAX + 1);
        assert!(listed.contains("and 12 more") && listed.contains("另有 12 项"), "{listed}");
    }

    #[test]
    fn every_digest_that_is_no_mere_algorithm_is_named_in_chinese() {
        let report = judge(&anchored()).unwrap();
        let all = report.digests.iter().chain(report.objects.iter().flat_map(|object| &object.digests));
        let described = all.filter(|(name, _)| name.starts_with(|c: char| c.is_lowercase()));
        let names: Vec<&str> = described.map(|(name, _)| name.as_str()).collect();
        assert!(names.len() >= 4, "{names:?}");
        assert!(names.iter().all(|name| !of_what(name).is_empty()), "{names:?}");
    }

    #[test]
    fn every_event_has_a_word_in_chinese() {
        use crate::record::Event;
        for one in
            [Event::Put, Event::DeleteMarker, Event::Delete, Event::Overwrite, Event::Retention, Event::LegalHold]
        {
            assert!(!event(one.name()).is_empty(), "{}", one.name());
        }
    }

    #[test]
    fn nothing_of_the_bundle_is_markup() {
        assert_eq!(escaped("<a href=\"x\">&'\u{202e}\n"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\\u{202e}\\u{a}");
        assert_eq!(grouped("0123456789"), "0123 4567 89");
        assert_eq!(grouped(""), "");
    }
}
