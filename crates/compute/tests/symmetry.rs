//! Point groups have the rotations that RELION 3.1.3 gives them: a map that is symmetric there is symmetric here.

use dewar_compute::orientation::Rotation;
use dewar_compute::symmetry::PointGroup;

/// RELION prints six digits.
const TOLERANCE_DEG: f64 = 0.01;

/// The groups of the file, each with its rotations but for the identity.
fn groups() -> Vec<(PointGroup, Vec<Rotation>)> {
    let mut groups: Vec<(PointGroup, Vec<Rotation>)> = Vec::new();
    let lines = include_str!("data/relion-symmetry.txt").lines();
    for line in lines.filter(|line| !line.starts_with('#')) {
        let angles: Option<Vec<f64>> = line.split(' ').map(|word| word.parse().ok()).collect();
        match angles.as_deref() {
            Some(&[rot, tilt, psi]) => {
                let (_, rotations) = groups.last_mut().expect("a group has a name");
                rotations.push(Rotation::from_euler_deg(rot, tilt, psi));
            }
            _ => groups.push((line.parse().unwrap(), Vec::new())),
        }
    }
    groups
}

#[test]
fn every_rotation_is_one_of_relions_and_none_is_missing() {
    let groups = groups();
    let names: Vec<String> = groups.iter().map(|(group, _)| group.to_string()).collect();
    assert_eq!(
        names,
        ["C3", "D7", "D2", "T", "O", "I1", "I", "I3", "I4"],
        "I is RELION's I2"
    );
    for (group, theirs) in groups {
        let ours = group.operators();
        assert_eq!(ours.len(), theirs.len() + 1, "{group}");
        for operator in &ours[1..] {
            let near = theirs
                .iter()
                .filter(|rotation| rotation.angle_to_deg(&Rotation(*operator)) < TOLERANCE_DEG);
            assert_eq!(near.count(), 1, "{group}: {operator}");
        }
    }
}
