//! Plots as SVG text: curves with axes that can be read, in colours that the colour-blind tell apart.
//!
//! Lines of text and axes take the colour of the text around them (`currentColor`), so the same
//! plot stands in a light and in a dark page, and prints black on its own.

use std::fmt::Display;

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Okabe and Ito's palette, without its yellow (too light on white) and black (unseen in the dark).
pub const PALETTE: [[u8; 3]; 7] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233], [136, 136, 136]];

/// Stands for `currentColor` until the text of the SVG is there.
const INK: RGBColor = RGBColor(1, 2, 3);
/// Plotters gives SVG 1/1.24 of the size asked for.
const FONT: f64 = 15.0 * 1.24;

/// The colour of the `i`-th series or class.
pub fn color(i: usize) -> [u8; 3] {
    PALETTE[i % PALETTE.len()]
}

/// Values past this are no places on paper: they are left out, as those that are not finite are.
const LARGEST: f64 = 1e100;
/// Most ticks on a logarithmic axis; where more values occur, powers of ten stand for them.
const TICKS: usize = 8;

/// A plot as data: what it shows, drawn when it is looked at.
///
/// ```
/// use dinorad_report::plot::{Plot, Series};
///
/// let plot = Plot::Roc { curves: vec![Series::new("pneumonia", vec![(0.0, 0.0), (0.1, 0.8), (1.0, 1.0)])], marked: vec![] };
/// let kept = serde_json::to_string(&plot)?;
/// let again: Plot = serde_json::from_str(&kept)?;
/// assert_eq!(again.to_svg()?, plot.to_svg()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "plot", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Plot {
    /// As [`roc`].
    Roc {
        /// One for each class.
        curves: Vec<Series>,
        /// Single points.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        marked: Vec<Series>,
    },
    /// As [`precision_recall`].
    PrecisionRecall {
        /// One for each class.
        curves: Vec<Series>,
        /// What chance gives.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prevalence: Option<f64>,
    },
    /// As [`reliability`].
    Reliability {
        /// One for each model.
        curves: Vec<Series>,
        /// `(from, to, share of cases)`.
        bars: Vec<(f64, f64, f64)>,
    },
    /// As [`lines`].
    Lines {
        /// How it is drawn.
        axes: LinePlot,
        /// The lines.
        series: Vec<Series>,
    },
}

impl Plot {
    /// The names of its lines.
    pub(crate) fn names(&mut self) -> impl Iterator<Item = &mut String> {
        let (series, more): (_, &mut [Series]) = match self {
            Plot::Roc { curves, marked } => (curves, marked),
            Plot::PrecisionRecall { curves, .. } | Plot::Reliability { curves, .. } => (curves, &mut []),
            Plot::Lines { series, .. } => (series, &mut []),
        };
        series.iter_mut().chain(more).map(|line| &mut line.name)
    }

    /// The text of the SVG; the same for the same plot.
    ///
    /// # Errors
    /// [`Error::Draw`].
    pub fn to_svg(&self) -> Result<String> {
        match self {
            Plot::Roc { curves, marked } => roc(curves, marked),
            Plot::PrecisionRecall { curves, prevalence } => precision_recall(curves, *prevalence),
            Plot::Reliability { curves, bars } => reliability(curves, bars),
            Plot::Lines { axes, series } => lines(axes, series),
        }
    }
}

/// One line of a plot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// `(x, y)`; a non-finite point breaks no plot, it is left out.
    pub points: Vec<(f64, f64)>,
    /// `(x, low, high)` of the band around the line, such as an interval or the spread of draws.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub band: Vec<(f64, f64, f64)>,
}

impl Series {
    /// A named line.
    pub fn new(name: impl Into<String>, mut points: Vec<(f64, f64)>) -> Self {
        points.retain(|(x, y)| drawable(*x) && drawable(*y));
        Self { name: name.into(), points, band: Vec::new() }
    }

    /// With a band around the line.
    pub fn with_band(mut self, mut band: Vec<(f64, f64, f64)>) -> Self {
        band.retain(|(x, low, high)| drawable(*x) && drawable(*low) && drawable(*high));
        self.band = band;
        self
    }
}

/// How a line plot is drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinePlot {
    /// Below the x axis.
    pub x_label: String,
    /// Beside the y axis.
    pub y_label: String,
    /// Limits of y; from the points where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y_range: Option<(f64, f64)>,
    /// Distances on the x axis.
    pub x_scale: XScale,
    /// Whether points are marked.
    pub marks: Marks,
}

impl LinePlot {
    /// Equal steps on both axes, y as far as the points go, lines without marks.
    pub fn new(x_label: impl Into<String>, y_label: impl Into<String>) -> Self {
        Self {
            x_label: x_label.into(),
            y_label: y_label.into(),
            y_range: None,
            x_scale: XScale::Linear,
            marks: Marks::None,
        }
    }

    /// Of shares: y from 0 to 1.
    fn of_shares(x_label: &str, y_label: &str) -> Self {
        Self { y_range: Some((0.0, 1.0)), ..Self::new(x_label, y_label) }
    }
}

/// Distances on the x axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XScale {
    /// Equal steps.
    Linear,
    /// Equal ratios; x must be positive.
    Log,
}

/// Whether the points of a line are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Marks {
    /// The line alone.
    None,
    /// A dot on each.
    Dots,
    /// Dots without a line between them.
    Points,
}

/// Receiver operating characteristic: sensitivity over 1 − specificity, with the line of chance.
///
/// `points` of each series are `(false positive rate, true positive rate)` from (0, 0) to (1, 1);
/// name the series with its AUROC and interval. `marked` are single points, such as an operating point.
///
/// # Errors
/// [`Error::Draw`].
pub fn roc(curves: &[Series], marked: &[Series]) -> Result<String> {
    let plot = LinePlot::of_shares("1 − specificity (false positive rate)", "sensitivity (true positive rate)");
    let chance = Series::new("chance", vec![(0.0, 0.0), (1.0, 1.0)]);
    let more = Extras { x_range: Some((0.0, 1.0)), dashed: vec![chance], marked: marked.to_vec(), ..Extras::default() };
    draw((520, 480), &plot, curves, &more)
}

/// Precision over recall.
///
/// `points` of each series are `(recall, precision)`; name the series with its average precision and
/// interval. `prevalence` draws what chance gives, where all curves have one.
///
/// # Errors
/// [`Error::Draw`].
pub fn precision_recall(curves: &[Series], prevalence: Option<f64>) -> Result<String> {
    let plot = LinePlot::of_shares("recall (sensitivity)", "precision (positive predictive value)");
    let chance = prevalence.map(|p| Series::new(format!("chance {p:.3}"), vec![(0.0, p), (1.0, p)]));
    let dashed = chance.into_iter().collect();
    let more = Extras { x_range: Some((0.0, 1.0)), dashed, ..Extras::default() };
    draw((520, 480), &plot, curves, &more)
}

/// Reliability diagram: how often predictions of a confidence come true, over that confidence. A
/// calibrated model lies on the dashed line; bars are the share of cases at that confidence.
///
/// `points` of each series are `(confidence, share that came true)`, `bars` `(from, to, share of
/// cases)`.
///
/// # Errors
/// [`Error::Draw`].
///
/// # Source
/// Guo et al. 2017, arXiv:1706.04599.
pub fn reliability(curves: &[Series], bars: &[(f64, f64, f64)]) -> Result<String> {
    let plot = LinePlot { marks: Marks::Dots, ..LinePlot::of_shares("confidence", "share that came true") };
    let ideal = Series::new("calibrated", vec![(0.0, 0.0), (1.0, 1.0)]);
    let more = Extras { x_range: Some((0.0, 1.0)), dashed: vec![ideal], bars: bars.to_vec(), ..Extras::default() };
    draw((520, 480), &plot, curves, &more)
}

/// Lines over a common x axis, such as a score over k or a loss over steps, with their bands.
///
/// # Errors
/// [`Error::Draw`].
pub fn lines(plot: &LinePlot, series: &[Series]) -> Result<String> {
    draw((520, 420), plot, series, &Extras::default())
}

/// What some plots have beside their lines.
#[derive(Debug, Default)]
struct Extras {
    x_range: Option<(f64, f64)>,
    dashed: Vec<Series>,
    /// `(from, to, height)` behind everything.
    bars: Vec<(f64, f64, f64)>,
    /// Single points with names.
    marked: Vec<Series>,
}

/// The colour of a single point: that of a line which is not there.
fn mark(i: usize) -> RGBColor {
    let [r, g, b] = color(i + 1);
    RGBColor(r, g, b)
}

/// Height of a line of the legend, and where its text begins, in pixels.
const LINE: i32 = 24;
const TEXT_AT: i32 = 34;

/// The names of a legend in rows, as many beside each other as the width of a plot has room for; each with
/// where it begins.
fn rows(names: &[String]) -> Vec<Vec<(usize, i32)>> {
    const WIDTH: i32 = 480;
    let mut rows: Vec<Vec<(usize, i32)>> = Vec::new();
    let mut at = 0;
    for (i, name) in names.iter().enumerate() {
        let wide = TEXT_AT + 24 + (name.chars().count() as f64 * 0.5 * FONT * 0.93) as i32;
        match rows.last_mut().filter(|_| at + wide <= WIDTH) {
            Some(row) => row.push((i, at)),
            None => {
                at = 0;
                rows.push(vec![(i, 0)]);
            }
        }
        at += wide;
    }
    rows
}

/// A name that fits on a line.
fn short(name: &str) -> String {
    const MOST: usize = 60;
    match name.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", name[..at].trim_end()),
        None => name.to_owned(),
    }
}

fn draw(size: (u32, u32), plot: &LinePlot, series: &[Series], more: &Extras) -> Result<String> {
    let Extras { x_range, dashed, bars, marked } = more;
    let log = plot.x_scale == XScale::Log;
    let place = |x: f64| if log { x.ln() } else { x };
    let keep = |s: &Series| -> Vec<(f64, f64)> {
        s.points.iter().map(|&(x, y)| (place(x), y)).filter(|(x, y)| drawable(*x) && drawable(*y)).collect()
    };
    let kept: Vec<Vec<(f64, f64)>> = series.iter().map(keep).collect();
    let bands: Vec<Vec<(f64, f64, f64)>> = series.iter().map(|s| band(s, place)).collect();
    let (x0, x1) = x_range.unwrap_or_else(|| extent(kept.iter().flatten().map(|p| p.0), 0.03));
    let edges = bands.iter().flatten().flat_map(|b| [b.1, b.2]);
    let (y0, y1) = plot.y_range.unwrap_or_else(|| extent(kept.iter().flatten().map(|p| p.1).chain(edges), 0.08));
    if !(drawable(y0) && drawable(y1) && y0 < y1) {
        return Err(Error::Draw { what: "a plot", why: format!("y cannot run from {y0} to {y1}") });
    }
    let named = series.len() + dashed.len() > 1 || x_range.is_some();
    let names: Vec<String> = match named {
        true => series.iter().chain(marked).chain(dashed).map(|s| short(&s.name)).collect(),
        false => Vec::new(),
    };
    let legend = rows(&names);
    // With a logarithmic axis the ticks are the x values that occur.
    let mut ticks: Vec<f64> = kept.iter().flatten().map(|p| p.0).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    if ticks.len() > TICKS {
        ticks = powers_of_ten(&ticks);
    }
    let mut svg = String::new();
    {
        let below = legend.len() as i32 * LINE;
        let whole = (size.0, size.1 + below as u32 + if legend.is_empty() { 0 } else { 8 });
        let area = SVGBackend::with_string(&mut svg, whole).into_drawing_area();
        let (upper, _) = area.split_vertically(size.1);
        let text = |size: f64| ("sans-serif", size).into_font().color(&INK);
        let mut chart = ChartBuilder::on(&upper)
            .margin(12)
            .margin_right(20)
            .x_label_area_size(54)
            .y_label_area_size(66)
            .build_cartesian_2d(x0..x1, y0..y1)
            .map_err(drawing)?;
        let x_text = |x: &f64| if log { number(x.exp()) } else { number(*x) };
        let y_text = |y: &f64| number(*y);
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(&plot.x_label)
            .y_desc(&plot.y_label)
            .axis_desc_style(text(FONT))
            .label_style(text(FONT * 0.93))
            .axis_style(INK.mix(0.6))
            .bold_line_style(INK.mix(0.14))
            .light_line_style(INK.mix(0.0))
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&x_text)
            .y_label_formatter(&y_text);
        if log {
            // Drawn below: plotters places its own ticks on a linear scale.
            mesh.x_labels(0).disable_x_mesh();
        }
        mesh.draw().map_err(drawing)?;
        if log {
            let style = text(FONT * 0.93).pos(plotters::style::text_anchor::Pos::new(
                plotters::style::text_anchor::HPos::Center,
                plotters::style::text_anchor::VPos::Top,
            ));
            for &x in &ticks {
                chart
                    .draw_series(std::iter::once(PathElement::new(vec![(x, y0), (x, y1)], INK.mix(0.14))))
                    .map_err(drawing)?;
                let (px, py) = chart.backend_coord(&(x, y0));
                area.draw(&Text::new(number(x.exp()), (px, py + 7), style.clone())).map_err(drawing)?;
            }
        }
        let columns = bars.iter().map(|&(from, to, height)| {
            Rectangle::new([(from, y0), (to, height.clamp(y0, y1))], INK.mix(0.16).filled())
        });
        chart.draw_series(columns).map_err(drawing)?;
        for (i, band) in bands.iter().enumerate().filter(|(_, b)| b.len() > 1) {
            let [r, g, b] = color(i);
            let there = band.iter().map(|&(x, low, _)| (x, low));
            let back = band.iter().rev().map(|&(x, _, high)| (x, high));
            let outline: Vec<(f64, f64)> = there.chain(back).map(|(x, y)| (x, y.clamp(y0, y1))).collect();
            chart.draw_series(std::iter::once(Polygon::new(outline, RGBColor(r, g, b).mix(0.18)))).map_err(drawing)?;
        }
        for s in dashed {
            chart.draw_series(DashedLineSeries::new(keep(s), 6, 5, INK.mix(0.55).stroke_width(2))).map_err(drawing)?;
        }
        for (i, points) in kept.into_iter().enumerate() {
            let [r, g, b] = color(i);
            let style = RGBColor(r, g, b).stroke_width(3);
            if plot.marks != Marks::None {
                chart
                    .draw_series(points.iter().map(|&p| Circle::new(p, 5, RGBColor(r, g, b).filled())))
                    .map_err(drawing)?;
            }
            if plot.marks != Marks::Points {
                chart.draw_series(LineSeries::new(points, style)).map_err(drawing)?;
            }
        }
        for (i, point) in marked.iter().enumerate() {
            let dots = keep(point);
            let style = mark(i);
            chart.draw_series(dots.into_iter().map(|p| Circle::new(p, 7, style.filled()))).map_err(drawing)?;
        }
        let style = text(FONT * 0.93).pos(plotters::style::text_anchor::Pos::new(
            plotters::style::text_anchor::HPos::Left,
            plotters::style::text_anchor::VPos::Center,
        ));
        for (row, entries) in legend.iter().enumerate() {
            let y = size.1 as i32 + row as i32 * LINE + LINE / 2;
            for &(which, x) in entries {
                let x = x + 20;
                let line = |from: i32, to: i32, style| PathElement::new(vec![(x + from, y), (x + to, y)], style);
                match which.checked_sub(series.len()) {
                    None => {
                        let [r, g, b] = color(which);
                        area.draw(&line(0, 24, RGBColor(r, g, b).stroke_width(3))).map_err(drawing)?;
                    }
                    Some(i) if i < marked.len() => {
                        area.draw(&Circle::new((x + 12, y), 7, mark(i).filled())).map_err(drawing)?;
                    }
                    Some(_) => {
                        let style = INK.mix(0.55).stroke_width(2);
                        area.draw(&line(0, 9, style)).map_err(drawing)?;
                        area.draw(&line(15, 24, style)).map_err(drawing)?;
                    }
                }
                let name = names.get(which).cloned().unwrap_or_default();
                area.draw(&Text::new(name, (x + TEXT_AT, y), style.clone())).map_err(drawing)?;
            }
        }
        area.present().map_err(drawing)?;
    }
    Ok(svg.replace("#010203", "currentColor"))
}

/// The finite part of a band, its places on the axis.
fn band(series: &Series, place: impl Fn(f64) -> f64) -> Vec<(f64, f64, f64)> {
    let placed = series.band.iter().map(|&(x, low, high)| (place(x), low, high));
    placed.filter(|(x, low, high)| drawable(*x) && drawable(*low) && drawable(*high)).collect()
}

/// Whether a value has a place on paper.
fn drawable(v: f64) -> bool {
    v.abs() <= LARGEST
}

/// Logarithms of powers of ten between the first and the last of sorted logarithms, evenly spaced and
/// at most [`TICKS`]; both ends where there are fewer than two of them.
fn powers_of_ten(logarithms: &[f64]) -> Vec<f64> {
    let (Some(first), Some(last)) = (logarithms.first(), logarithms.last()) else { return Vec::new() };
    let ten = std::f64::consts::LN_10;
    // what is a power of ten but for rounding counts as one
    let (low, high) = ((first / ten - 1e-9).ceil() as i64, (last / ten + 1e-9).floor() as i64);
    if high <= low {
        return vec![*first, *last];
    }
    let step = usize::try_from(high - low).unwrap_or(usize::MAX).div_ceil(TICKS - 1).max(1);
    (low..=high).step_by(step).map(|power| power as f64 * ten).collect()
}

/// Least and greatest with a margin; a sensible span where there is none.
fn extent(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for v in values {
        low = low.min(v);
        high = high.max(v);
    }
    if low > high {
        return (0.0, 1.0);
    }
    let pad = if high > low { (high - low) * margin } else { high.abs().max(1.0) * 0.05 };
    (low - pad, high + pad)
}

/// At most three decimals, no trailing zeros; powers of ten where that says nothing.
fn number(v: f64) -> String {
    if v != 0.0 && (v.abs() < 0.001 || v.abs() >= 1e6) {
        return format!("{v:.1e}");
    }
    let text = format!("{v:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.to_owned() }
}

fn drawing(e: impl Display) -> Error {
    Error::Draw { what: "a plot", why: e.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legend_stands_below_the_curves() {
        let names = ["validation", "test (diagnostic)", "a name that takes a whole line of its own, as long as it is"];
        let series: Vec<Series> = names.iter().map(|n| Series::new(*n, vec![(0.0, 0.1), (1.0, 0.9)])).collect();
        let svg = lines(&LinePlot::new("setting", "AUROC"), &series).unwrap();
        let height = |text: &str| -> f64 {
            let before = &svg[..svg.find(text).unwrap_or_else(|| panic!("no {text} in {svg}"))];
            let at = before.rfind("<text").unwrap();
            before[at..].split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        let axis = height(">\nsetting");
        assert!(names.iter().all(|name| height(&format!(">\n{name}")) > axis), "{svg}");
        assert_eq!(height(">\nvalidation"), height(">\ntest (diagnostic)"), "short names share a line");
        assert!(height(">\na name") > height(">\nvalidation"));
        assert!(rows(&names.map(str::to_owned)).len() == 2 && rows(&[]).is_empty());
    }

    #[test]
    fn plots_are_the_same_each_time_and_safe_to_embed() {
        let curve =
            || Series::new("<b>pneumonia</b> & \"more\"", vec![(0.0, 0.0), (0.2, 0.9), (f64::NAN, 0.5), (1.0, 1.0)]);
        let svg = roc(&[curve()], &[]).unwrap();
        assert_eq!(svg, roc(&[curve()], &[]).unwrap());
        let marked = roc(&[curve()], &[Series::new("threshold", vec![(0.2, 0.9)])]).unwrap();
        assert_eq!(
            marked.matches("<circle").count(),
            svg.matches("<circle").count() + 2,
            "on the curve and in the legend"
        );
        assert!(svg.starts_with("<svg") && svg.contains("currentColor") && !svg.contains("#010203"));
        assert!(!svg.contains("<b>") && svg.contains("&lt;b&gt;"), "labels are escaped");
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn odd_ranges_are_drawn() {
        let plot = LinePlot {
            x_label: "k".into(),
            y_label: "AUROC".into(),
            y_range: None,
            x_scale: XScale::Log,
            marks: Marks::Dots,
        };
        for points in [vec![], vec![(1.0, 0.5)], vec![(1.0, 0.5), (5.0, 0.5)], vec![(0.0, 0.5), (5.0, f64::INFINITY)]] {
            let svg = lines(&plot, &[Series::new("a", points)]).unwrap();
            assert!(svg.ends_with("</svg>\n") && !svg.contains("inf") && !svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn bands_and_bars_are_drawn_where_they_are_finite() {
        let plot = LinePlot {
            x_label: "shots per class".into(),
            y_label: "AUROC".into(),
            y_range: None,
            x_scale: XScale::Log,
            marks: Marks::Dots,
        };
        let line = Series::new("kNN", vec![(1.0, 0.6), (4.0, 0.7)]);
        let plain = lines(&plot, std::slice::from_ref(&line)).unwrap();
        let banded = line.with_band(vec![(1.0, 0.5, 0.7), (2.0, f64::NAN, 0.8), (4.0, 0.65, 0.75)]);
        let svg = lines(&plot, &[banded]).unwrap();
        assert_eq!(svg.matches("<polygon").count(), plain.matches("<polygon").count() + 1);
        assert!(!svg.contains("NaN"));
        let svg =
            reliability(&[Series::new("ECE 0.1", vec![(0.2, 0.3)])], &[(0.0, 0.5, 0.4), (0.5, 1.0, 0.6)]).unwrap();
        assert!(svg.contains("calibrated"));
        let svg = precision_recall(&[Series::new("AP 0.8", vec![(0.0, 1.0), (1.0, 0.4)])], Some(0.4)).unwrap();
        assert!(svg.contains("chance 0.400"));
    }

    #[test]
    fn many_values_on_a_logarithmic_axis_are_told_by_powers_of_ten() {
        let tens = |logs: &[f64]| -> Vec<String> { powers_of_ten(logs).iter().map(|l| number(l.exp())).collect() };
        let strengths: Vec<f64> = (-24..=20).map(|i| 10f64.powf(f64::from(i) / 4.0).ln()).collect();
        assert_eq!(tens(&strengths), ["1.0e-6", "1.0e-4", "0.01", "1", "100", "10000"]);
        assert_eq!(tens(&[2f64.ln(), 3f64.ln()]), ["2", "3"]);
        assert_eq!(tens(&[1f64.ln(), 10f64.ln()]), ["1", "10"]);
        assert!(tens(&[]).is_empty());
    }

    #[test]
    fn plots_from_a_file_cannot_ask_for_the_impossible() {
        let axes = |y_range| LinePlot {
            x_label: String::new(),
            y_label: String::new(),
            y_range,
            x_scale: XScale::Linear,
            marks: Marks::None,
        };
        let far = |points: Vec<(f64, f64)>| Plot::Lines {
            axes: axes(None),
            series: vec![Series { name: "far".into(), points, band: vec![(1e308, -1e308, 1e308)] }],
        };
        for points in [vec![(0.0, 1e308), (1.0, -1e308)], vec![(-1e308, 0.0), (1e308, 1.0)], vec![(1e99, 0.0)]] {
            let svg = far(points).to_svg().unwrap();
            assert!(!svg.contains("inf") && !svg.contains("NaN"), "{svg}");
        }
        for range in [(1.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::INFINITY)] {
            let flat = Plot::Lines { axes: axes(Some(range)), series: Vec::new() };
            assert!(matches!(flat.to_svg(), Err(Error::Draw { .. })), "{range:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.25, 1.0, -0.0, 100.0, 0.0001].map(number), ["0.25", "1", "0", "100", "1.0e-4"]);
    }
}
