//! What a person reads: one table of all figures.

use crate::figure::{Figure, Spread};
use crate::report::Report;

/// Columns for what a figure is of, its unit, its median and its extremes.
const WIDTHS: [usize; 4] = [58, 12, 10, 21];

/// Width of running text.
const TEXT: usize = 118;

/// Prints it to standard output.
pub fn print(report: &Report) {
    let machine = &report.machine;
    println!(
        "\nklaviyo_sync {}, {}\n{}, {} cores, {} MB, Linux {}; load {} before and {} after; {} s in all\n\
         PostgreSQL {}, fsync {}; {}; klaviyo.* at their defaults where nothing else is said",
        machine.commit,
        report.effort.name,
        machine.cpu,
        machine.cores,
        machine.memory_mb,
        machine.kernel,
        report.load[0],
        report.load[1],
        report.seconds,
        machine.postgres,
        if machine.fsync { "on" } else { "off" },
        report.settings.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", "),
    );
    for section in &report.sections {
        println!("\n── {} ──", section.title);
        wrap(&section.how).iter().for_each(|line| println!("{line}"));
        println!();
        line("", "unit", "median", "min – max", "ratio (min – max) to");
        section.figures.iter().for_each(figure);
    }
    for failure in &report.failures {
        println!("\nNOT MEASURED: {}: {}", failure.measurement, failure.reason);
    }
}

fn figure(figure: &Figure) {
    let Spread { median, min, max } = figure.spread;
    let against = figure.against.as_ref().map_or(String::new(), |against| {
        let Spread { median, min, max } = against.ratio;
        format!("{median:.3} ({min:.3} – {max:.3}) {}", against.what)
    });
    let spread = format!("{} – {}", number(min), number(max));
    line(&figure.what, figure.unit, &number(median), &spread, &against);
}

fn line(what: &str, unit: &str, median: &str, spread: &str, against: &str) {
    let [first, second, third, fourth] = WIDTHS;
    let text = format!("{what:<first$} {unit:<second$} {median:>third$} {spread:>fourth$}  {against}");
    println!("{}", text.trim_end());
}

/// Three digits or more, as few as that takes.
fn number(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 && small.fract() != 0.0 => format!("{value:.2}"),
        medium if medium < 100.0 && medium.fract() != 0.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Breaks a text into lines.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.chars().count() + 1 + word.chars().count() > TEXT {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_tell_something() {
        let numbers = [0.123, 9.0, 12.34, 1234.5, 0.0].map(number);
        assert_eq!(numbers, ["0.12", "9", "12.3", "1234", "0"]);
    }

    #[test]
    fn text_is_broken_between_words() {
        let lines = wrap(&"word ".repeat(60));
        assert!(lines.iter().all(|line| line.len() <= TEXT && !line.ends_with(' ')), "{lines:?}");
        assert_eq!(lines.iter().map(|line| line.split(' ').count()).sum::<usize>(), 60);
    }
}
