//! The report as one self-contained page: what it says is put together in [`view`], what its charts show in [`charts`],
//! and how it looks is in the files beside them. Opens no file and measures nothing.

mod charts;
mod format;
mod view;

use askama::Template;

use crate::report::schema::Report;
use charts::Charts;
use view::{Mark, View};

/// The page. All text of the report goes through the template's escaping.
#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    css: &'static str,
    js: &'static str,
    plotly: &'a str,
    /// JSON that a `<script>` can hold.
    charts: String,
    view: View,
}

/// The report as an HTML page that needs no other file and asks for none: style, script, chart library (plotly.js, most
/// of its 5 MB) and numbers are in it, and its content security policy lets nothing else in. What the report says is
/// shown as text, whatever it contains.
pub fn render(report: &Report) -> String {
    let libraries = plotly::Plot::offline_js_sources();
    let page = Page {
        css: include_str!("html/report.css"),
        js: include_str!("html/report.js"),
        plotly: plotly_js(&libraries),
        charts: script_json(&Charts::of(report)),
        view: View::of(report),
    };
    page.render().expect("a template of plain fields can be written to a string")
}

/// The first script of the chart library's page head, which is plotly.js. The second one sets formulas, half as large
/// again, and this page has none.
fn plotly_js(libraries: &str) -> &str {
    let (_, rest) = libraries.split_once('>').expect("a script element has a start tag");
    let (script, _) = rest.split_once("</script>").expect("a script element has an end");
    script
}

/// JSON in which no text can end the `<script>` around it: `<` occurs only within strings, where it may be escaped.
fn script_json(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_string(value).expect("numbers and strings can be written as JSON");
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_library_is_cut_out_whole_and_alone() {
        let libraries = plotly::Plot::offline_js_sources();
        let script = plotly_js(&libraries);
        assert!(script.contains("plotly.js v"), "{}", &script[..200]);
        assert!(script.trim_end().ends_with(';') || script.trim_end().ends_with('}'));
        assert!(!script.contains("MathJax_Main"));
    }

    #[test]
    fn a_script_end_within_a_string_stays_a_string() {
        let text = "</script><script>alert(1)</script>";
        let json = script_json(&text);
        assert!(!json.contains('<'));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
