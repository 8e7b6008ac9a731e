// SPDX-License-Identifier: MIT OR Apache-2.0

//! The results as a picture: rate over the size of a message, both logarithmic.

use super::{end::Way, report::Report};
use crate::units::{binary, rate};
use plotters::prelude::*;

const SIZE: (u32, u32) = (960, 600);

fn color(way: Way) -> RGBColor {
    match way {
        Way::Pipe => RGBColor(0x88, 0x88, 0x88),
        Way::PipeLarge => RGBColor(0x44, 0x44, 0x44),
        Way::Zpipe => RGBColor(0xd0, 0x40, 0x30),
        Way::Gift => RGBColor(0xe0, 0x90, 0x20),
        Way::Window => RGBColor(0x90, 0x50, 0xb0),
        Way::OtherMemory => RGBColor(0x30, 0x90, 0x50),
        Way::Shared => RGBColor(0x30, 0x60, 0xc0),
    }
}

/// Returns a picture in SVG.
pub fn draw(report: &Report) -> Result<String, String> {
    let mut picture = String::new();
    draw_to(&mut picture, report).map_err(|error| error.to_string())?;
    Ok(picture)
}

fn draw_to(picture: &mut String, report: &Report) -> Result<(), Box<dyn std::error::Error>> {
    let (sizes, ways) = report.axes();
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else {
        return Err("there are no results".into());
    };
    let rates = || report.results.iter().map(|cell| cell.median);
    let (low, high) = (
        rates().fold(f64::MAX, f64::min),
        rates().fold(0.0, f64::max),
    );
    let area = SVGBackend::with_string(picture, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    // A single size has an axis, too.
    let (from, to) = (*first as f64 / 1.5, *last as f64 * 1.5);
    let mut chart = ChartBuilder::on(&area)
        .caption(report.machine.title(), ("sans-serif", 14))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(
            (from..to).log_scale().base(2.0),
            (low.max(1.0) / 2.0..high.max(2.0) * 2.0).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("message")
        .y_desc("rate")
        .x_label_formatter(&|size| binary(size.round() as u64))
        .y_label_formatter(&|value| rate(*value))
        .light_line_style(WHITE)
        .draw()?;
    for way in ways {
        let points = sizes.iter().filter_map(|size| {
            let cell = report.cell(way, *size)?;
            Some((*size as f64, cell.median))
        });
        let points: Vec<_> = points.collect();
        let style = color(way).stroke_width(2);
        let line = LineSeries::new(points, style).point_size(3);
        chart
            .draw_series(line)?
            .label(way.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::report::tests::report, *};

    #[test]
    fn a_picture_names_its_lines() {
        let picture = draw(&report()).unwrap();
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
        for wanted in ["Linux ", "zpipe-gift", "message", "4 KiB", "4 MiB"] {
            assert!(picture.contains(wanted), "{wanted}");
        }
        let mut empty = report();
        empty.results.clear();
        assert!(draw(&empty).is_err());
    }
}
