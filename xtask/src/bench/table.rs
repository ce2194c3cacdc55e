//! Rows of JSON as Markdown tables: one table per set of columns, in the order in which they came.

use std::collections::BTreeMap;

use serde_json::Value;

/// Rows of one table: value by column.
type Rows = Vec<BTreeMap<String, String>>;

/// Columns that say what a row is about come first, in this order; the others follow by name.
const FIRST: [&str; 8] = ["bench", "stage", "case", "size", "op", "clients", "writers", "media"];

/// Tables for all rows.
pub(super) fn render(rows: &[Value]) -> String {
    let mut tables: Vec<(Vec<String>, Rows)> = Vec::new();
    for row in rows {
        let mut cells = BTreeMap::new();
        flatten("", row, &mut cells);
        let columns = columns(&cells);
        match tables.iter_mut().find(|(known, _)| *known == columns) {
            Some((_, rows)) => rows.push(cells),
            None => tables.push((columns, vec![cells])),
        }
    }
    let mut text = String::new();
    for (columns, rows) in tables {
        line(&mut text, columns.iter().map(String::as_str));
        line(&mut text, columns.iter().map(|_| "---"));
        for row in rows {
            line(&mut text, columns.iter().map(|column| row.get(column).map_or("", String::as_str)));
        }
        text.push('\n');
    }
    text
}

fn line<'a>(text: &mut String, cells: impl Iterator<Item = &'a str>) {
    text.push_str("| ");
    text.push_str(&cells.collect::<Vec<_>>().join(" | "));
    text.push_str(" |\n");
}

fn columns(cells: &BTreeMap<String, String>) -> Vec<String> {
    let mut names: Vec<String> = cells.keys().cloned().collect();
    names.sort_by_key(|name| (FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()), name.clone()));
    names
}

fn flatten(name: &str, value: &Value, cells: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name} {field}") };
                flatten(&name, value, cells);
            }
        }
        Value::Number(number) => drop(cells.insert(name.to_owned(), short(number))),
        Value::String(text) => drop(cells.insert(name.to_owned(), text.replace('|', "/"))),
        other => drop(cells.insert(name.to_owned(), other.to_string())),
    }
}

/// Three digits that mean something; counts are left whole.
fn short(number: &serde_json::Number) -> String {
    if number.is_u64() || number.is_i64() {
        return number.to_string();
    }
    let value = number.as_f64().unwrap_or_default();
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_shape_share_a_table() {
        let rows = [
            serde_json::json!({"b": 1, "bench": "x", "nested": {"a": 0.12345}}),
            serde_json::json!({"b": 2, "bench": "y", "nested": {"a": 1234.5}}),
            serde_json::json!({"other": true}),
        ];
        let text = render(&rows);
        assert_eq!(
            text,
            "| bench | b | nested a |\n| --- | --- | --- |\n| x | 1 | 0.123 |\n| y | 2 | 1234 |\n\n\
             | other |\n| --- |\n| true |\n\n"
        );
    }
}
