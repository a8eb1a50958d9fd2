//! Writes the elements of an SVG image. All text is escaped.

use std::fmt::Write;

pub(super) struct Svg(String);

#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Size, weight and colour of text.
#[derive(Clone, Copy)]
pub(super) struct Style(f64, u16, &'static str);

impl Style {
    pub(super) const TITLE: Self = Self(20.0, 600, "#1f2933");
    pub(super) const FIGURE: Self = Self(21.0, 600, "#1f2933");
    pub(super) const HEADING: Self = Self(14.0, 600, "#1f2933");
    pub(super) const VALUE: Self = Self(13.0, 600, "#1f2933");
    pub(super) const NOTE: Self = Self(13.0, 400, "#52606d");
    pub(super) const PROBLEM: Self = Self(13.0, 600, "#b42318");
}

impl Svg {
    /// Starts an image with a white background. The title and the description are for screen readers.
    pub(super) fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        let mut svg = Self(String::new());
        svg.add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"system-ui, -apple-system, Segoe UI, Roboto, \
             Helvetica, Arial, sans-serif\">\n<title>{}</title>\n<desc>{}</desc>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
            escaped(title),
            escaped(description)
        ));
        svg
    }

    pub(super) fn text(&mut self, x: f64, y: f64, text: &str, style: Style, anchor: Anchor) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let Style(size, weight, colour) = style;
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" font-weight=\"{weight}\" fill=\"{colour}\" \
             text-anchor=\"{anchor}\">{}</text>\n",
            escaped(text)
        ));
    }

    /// Draws a line through two or more points.
    pub(super) fn line(&mut self, points: &[(f64, f64)], colour: &str) {
        self.add(format_args!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" stroke-linejoin=\"round\" points=\""
        ));
        self.points(points);
        self.add(format_args!("\"/>\n"));
    }

    /// Fills the area between a line and a horizontal line.
    pub(super) fn area(&mut self, points: &[(f64, f64)], bottom: f64, colour: &str) {
        let ([(first, _), ..], [.., (last, _)]) = (points, points) else {
            return;
        };
        self.add(format_args!(
            "<polygon fill=\"{colour}\" fill-opacity=\"0.12\" points=\"{first:.1},{bottom:.1} "
        ));
        self.points(points);
        self.add(format_args!(" {last:.1},{bottom:.1}\"/>\n"));
    }

    fn points(&mut self, points: &[(f64, f64)]) {
        for (nth, (x, y)) in points.iter().enumerate() {
            let separator = if nth == 0 { "" } else { " " };
            self.add(format_args!("{separator}{x:.1},{y:.1}"));
        }
    }

    pub(super) fn dot(&mut self, x: f64, y: f64, radius: f64, colour: &str) {
        self.add(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>\n"
        ));
    }

    pub(super) fn grid(&mut self, x1: f64, y1: f64, x2: f64, y2: f64) {
        self.straight(x1, y1, x2, y2, "#e4e7eb", "");
    }

    pub(super) fn axis(&mut self, x1: f64, y1: f64, x2: f64, y2: f64) {
        self.straight(x1, y1, x2, y2, "#7b8794", "");
    }

    pub(super) fn dashed(&mut self, x1: f64, y1: f64, x2: f64, y2: f64) {
        let dashes = " stroke-dasharray=\"6 4\"";
        self.straight(x1, y1, x2, y2, "#52606d", dashes);
    }

    fn straight(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, colour: &str, dashes: &str) {
        self.add(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"{dashes}/>\n"
        ));
    }

    /// Returns the text of the image.
    pub(super) fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        self.0
            .write_fmt(text)
            .expect("writing to a String does not fail");
    }
}

/// Escapes text for XML. XML 1.0 section 2.2 has no control characters, not even escaped ones: they are replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let table = [
            ("a<b>&c\"d'e", "a&lt;b&gt;&amp;c&quot;d&#39;e"),
            (
                "\0\n\u{1b}\u{85}\u{ffff}",
                "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
            ),
            ("\u{b5}s \u{2026}", "\u{b5}s \u{2026}"),
        ];
        for (text, expected) in table {
            assert_eq!(escaped(text), expected);
        }
        let mut svg = Svg::new(1.0, 1.0, "<title>", "a&b");
        svg.text(0.0, 0.0, "</text><script>", Style::NOTE, Anchor::Start);
        let image = svg.finish();
        assert!(!image.contains("<script>") && image.contains("<title>&lt;title&gt;</title>"));
    }
}
