//! Plots, drawn at the server as SVG: no script and no style of its own. The style sheet replaces the colours by those of the page.

use plotters::{
    backend::SVGBackend,
    chart::ChartBuilder,
    drawing::IntoDrawingArea as _,
    element::Rectangle,
    style::{Color as _, IntoFont as _, RGBColor},
};

/// How a plot is drawn, in the units of its own coordinates.
struct Shape {
    /// The class of its element in the style sheet.
    class: &'static str,
    size: (u32, u32),
    /// Labels below the bars, at most so many.
    max_labels: usize,
    /// The width that labels of values take.
    value_width: u32,
}

/// For wide windows, and for narrow ones, where letters of the first would be too small to read. The style sheet shows one of them.
const SHAPES: [Shape; 2] = [
    Shape { class: "plot wide-plot", size: (960, 240), max_labels: 11, value_width: 72 },
    Shape { class: "plot narrow-plot", size: (330, 200), max_labels: 4, value_width: 52 },
];
/// The style sheet knows each by its value.
const BAR: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
const TEXT: RGBColor = RGBColor(3, 3, 3);
const FONT_SIZE: u32 = 15;
/// Labels beside the bars, about so many.
const VALUE_LABELS: usize = 5;
/// What a bar leaves free on each side, of its own width.
const GAP: f64 = 0.12;

/// A bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What stands below it.
    pub label: String,
    /// How high it is.
    pub value: f64,
}

/// Bars beside each other, as elements `svg` of each shape, which assistive technology leaves out: the table beside them has the same. `None`
/// where there is nothing to draw.
pub fn bars(bars: &[Bar], value_label: impl Fn(f64) -> String) -> Option<String> {
    let highest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    if bars.is_empty() || highest <= 0.0 || !highest.is_finite() {
        return None;
    }
    let mut plots = String::new();
    for shape in &SHAPES {
        let mut svg = String::new();
        if let Err(error) = draw(shape, bars, highest, &|value| value_label(*value), &mut svg) {
            tracing::error!(%error, "a plot could not be drawn");
            return None;
        }
        let begin = format!("<svg class=\"{}\" aria-hidden=\"true\" ", shape.class);
        plots.push_str(&svg.replacen("<svg ", &begin, 1));
    }
    Some(plots)
}

fn draw(
    shape: &Shape,
    bars: &[Bar],
    highest: f64,
    value_label: &dyn Fn(&f64) -> String,
    svg: &mut String,
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, shape.size).into_drawing_area();
    #[expect(clippy::cast_precision_loss, reason = "as many bars as days in a year")]
    let count = bars.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .margin_right(24)
        .x_label_area_size(28)
        .y_label_area_size(shape.value_width)
        .build_cartesian_2d(0.0..count, 0.0..highest * 1.05)?;
    let font = ("sans-serif", FONT_SIZE).into_font().color(&TEXT);
    // A label stands at the left edge of its bar.
    let label = |at: &f64| bar_at(bars, *at).map(|bar| bar.label.clone()).unwrap_or_default();
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(GRID.mix(0.0))
        .axis_style(GRID)
        .x_labels(bars.len().min(shape.max_labels))
        .x_label_formatter(&label)
        .y_labels(VALUE_LABELS)
        .y_label_formatter(value_label)
        .label_style(font)
        .draw()?;
    let mut left = 0.0;
    let rectangles = bars.iter().map(|bar| {
        let rectangle = Rectangle::new([(left + GAP, 0.0), (left + 1.0 - GAP, bar.value)], BAR.filled());
        left += 1.0;
        rectangle
    });
    chart.draw_series(rectangles)?;
    area.present()?;
    Ok(())
}

/// The bar that begins there.
fn bar_at(bars: &[Bar], at: f64) -> Option<&Bar> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the number of bars")]
    let index = at.max(0.0) as usize;
    bars.get(index).filter(|_| (at - at.round()).abs() < f64::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: f64) -> Bar {
        Bar { label: label.to_owned(), value }
    }

    #[test]
    fn plot_has_a_bar_for_each_value_and_no_style_or_script() {
        let days = [bar("<b>&\"", 1.0), bar("2", 0.0), bar("3", 4.0)];
        let svg = bars(&days, |value| format!("{value:.0}")).unwrap();
        for class in ["plot wide-plot", "plot narrow-plot"] {
            assert!(svg.contains(&format!("<svg class=\"{class}\" aria-hidden=\"true\"")), "{svg}");
        }
        assert_eq!(svg.matches("fill=\"#010101\"").count(), 3 * SHAPES.len(), "{svg}");
        assert!(svg.contains("&lt;b&gt;&amp;&quot;"), "{svg}");
        for absent in ["style", "script", "<b>", "on", "href"] {
            assert!(
                !svg.contains(&format!(" {absent}=")) && !svg.contains(&format!("<{absent}")),
                "{absent}: {svg}"
            );
        }
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let none = |days: &[Bar]| bars(days, |value| value.to_string());
        assert_eq!(none(&[]), None);
        assert_eq!(none(&[bar("a", 0.0)]), None);
        assert_eq!(none(&[bar("a", f64::INFINITY)]), None);
    }
}
