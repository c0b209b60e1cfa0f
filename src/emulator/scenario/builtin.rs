//! The scenarios that come with the emulator.

use super::{Scenario, ScenarioError};

/// Name and text of each.
const FILES: [(&str, &str); 3] = [
    ("program", include_str!("../scenarios/program.yaml")),
    ("server", include_str!("../scenarios/server.yaml")),
    ("permissions", include_str!("../scenarios/permissions.yaml")),
];

/// The scenarios that come with the emulator, read anew.
///
/// # Errors
/// None that a released build can have: a test reads them all.
pub fn builtin() -> Result<Vec<Scenario>, ScenarioError> {
    FILES.iter().map(|(name, text)| Scenario::parse(name, text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_reads_and_is_named_like_its_file() {
        let names: Vec<String> = builtin().unwrap().into_iter().map(|scenario| scenario.name).collect();
        assert_eq!(names, FILES.map(|(name, _)| name));
    }
}
