//! A figure: what was measured several times, and what it is compared with.

use serde::Serialize;

/// Figures that were measured together.
#[derive(Debug, Serialize)]
pub struct Section {
    pub title: String,
    /// How they come about: settings, numbers, what is taken when.
    pub how: String,
    pub figures: Vec<Figure>,
}

/// One thing, measured several times.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub what: String,
    pub unit: &'static str,
    #[serde(flatten)]
    pub spread: Spread,
    pub samples: Vec<f64>,
    pub against: Option<Against>,
}

/// How a figure compares with another one of the same run.
#[derive(Clone, Debug, Serialize)]
pub struct Against {
    pub what: String,
    /// Of the ratios of what was measured one right after the other: drift does not show in these.
    #[serde(flatten)]
    pub ratio: Spread,
}

/// Median and extremes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Self { median: f64::midpoint(low, high), min: sorted[0], max: sorted[sorted.len() - 1] }
    }
}

impl Figure {
    /// A figure of at least one sample.
    pub fn new(what: impl Into<String>, unit: &'static str, samples: Vec<f64>) -> Self {
        let what = what.into();
        assert!(!samples.is_empty(), "{what} was not measured");
        Self { what, unit, spread: Spread::of(&samples), samples, against: None }
    }

    /// Compares it with one that was measured in turns with it.
    #[must_use]
    pub fn against(mut self, what: &str, other: &[f64]) -> Self {
        let ratios: Vec<f64> = self.samples.iter().zip(other).map(|(own, other)| own / other).collect();
        self.against = Some(Against { what: what.to_owned(), ratio: Spread::of(&ratios) });
        self
    }

    /// Compares it with what is the same for every sample, such as a limit.
    #[must_use]
    pub fn against_constant(self, what: &str, constant: f64) -> Self {
        let other = vec![constant; self.samples.len()];
        self.against(what, &other)
    }
}

/// The sample below which that part of them lies, from 0 to 1.
pub fn percentile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_samples() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn ratios_are_those_of_neighbours() {
        let figure = Figure::new("ours", "µs", vec![2.0, 20.0, 3.0]).against("floor", &[1.0, 10.0, 1.0]);
        assert_eq!(figure.against.map(|against| against.ratio.median), Some(2.0));
    }

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(
            [0.5, 0.95, 0.99, 1.0].map(|part| percentile(&samples, part)),
            [100.0, 190.0, 198.0, 200.0]
        );
        assert_eq!(percentile(&[7.0], 0.01), 7.0);
    }
}
