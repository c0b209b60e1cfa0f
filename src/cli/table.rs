//! The figures at the end of a demonstration.

use std::time::Duration;

use super::transcript::short;

/// A column of figures under its heading.
#[derive(Debug)]
pub(super) struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heading: &[&str]) -> Self {
        Self { heading: heading.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The first column to the left, figures to the right.
    pub(super) fn print(&self) {
        let all = || std::iter::once(&self.heading).chain(&self.rows);
        let columns = self.heading.len();
        let widths: Vec<usize> =
            (0..columns).map(|n| all().map(|row| row[n].chars().count()).max().unwrap_or(0)).collect();
        for (at, row) in all().enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(n, (cell, width))| match n {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            anstream::println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
            if at == 0 {
                anstream::println!(
                    "{}",
                    widths.iter().map(|width| "─".repeat(*width)).collect::<Vec<_>>().join("──")
                );
            }
        }
    }
}

/// The middle of some times, and the worst of them; a dash if there are none.
pub(super) fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(middle), Some(worst)) if times.len() > 1 => format!("{} / {}", short(*middle), short(*worst)),
        (Some(only), _) => short(*only),
        _ => "–".to_owned(),
    }
}

/// A size as a person would say it.
pub(super) fn mebibytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    format!("{mebibytes:.1} MiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let ms = Duration::from_micros;
        assert_eq!(spread(vec![]), "–");
        assert_eq!(spread(vec![ms(1_500)]), "1.50 ms");
        assert_eq!(spread(vec![ms(90_000), ms(400), ms(1_200_000)]), "90 ms / 1.2 s");
        assert_eq!(mebibytes(5 << 19), "2.5 MiB");
    }
}
