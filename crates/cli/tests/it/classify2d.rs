//! `dewar classify2d`: the same classes whoever computes, and what is chosen of them.

use crate::dewar::{dewar, word};
use std::fs;

/// Enough for three tasks a round.
const PARTICLES: &str = "600";

#[test]
fn classes_do_not_depend_on_who_computes_and_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set");
    let simulate = ["simulate", "--particles", PARTICLES, "--box", "32"];
    let more = ["--pixel-size", "8", "--snr", "1", "--out", word(&set)];
    dewar(simulate.into_iter().chain(more)).ok();
    let particles = set.join("particles.star");
    let outs = [("one", "thread:1"), ("three", "thread:3")].map(|(name, place)| {
        let out = folder.path().join(name);
        let words = [
            "classify2d",
            word(&particles),
            "--classes",
            "4",
            "--out",
            word(&out),
        ];
        let more = [
            "--iterations",
            "3",
            "--diameter",
            "190",
            "--parallel",
            place,
        ];
        dewar(words.into_iter().chain(more)).ok();
        out
    });
    for name in [
        "classes.mrcs",
        "particles.star",
        "classes.star",
        "gallery.png",
    ] {
        let [one, three] = outs.each_ref().map(|out| fs::read(out.join(name)).unwrap());
        assert!(one == three, "{name}");
    }

    let chosen = folder.path().join("chosen.star");
    let select = |classes: &str| {
        let words = ["classify2d", "select", word(&outs[0]), "--classes", classes];
        dewar(words.into_iter().chain(["--out", word(&chosen), "--json"]))
    };
    let told: serde_json::Value = serde_json::from_str(&select("2,1").ok().stdout).unwrap();
    let rows = |text: &str| text.lines().filter(|line| line.contains('@')).count();
    let text = fs::read_to_string(&chosen).unwrap();
    assert_eq!(told["particle_count"], rows(&text));
    assert_eq!(told["of"], 600);
    assert!(text.contains("_rlnClassNumber") && rows(&text) > 0 && rows(&text) < 600);
    // The images are found from the new place.
    dewar(["info", word(&chosen)]).ok();
    let refused = select("9");
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("no particle is in class 9"),
        "{}",
        refused.stderr
    );

    // How sure poses are was not measured.
    assert!(!text.contains("dewarAngleSdDeg") && text.contains("_rlnAnglePsi"));

    let words = [
        "classify2d",
        "--continue",
        word(&outs[0]),
        "--iterations",
        "4",
    ];
    let told = dewar(
        words
            .into_iter()
            .chain(["--parallel", "thread:2", "--json"]),
    );
    let told: serde_json::Value = serde_json::from_str(&told.ok().stdout).unwrap();
    assert_eq!(
        (&told["iterations"], &told["converged"]),
        (&4.into(), &false.into())
    );
    assert!(!outs[0].join("it003").exists() && outs[0].join("it004").exists());
    let nothing = folder.path().join("nothing");
    let refused = dewar(["classify2d", "--continue", word(&nothing)]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("no classification to go on with"),
        "{}",
        refused.stderr
    );

    // Other settings do not go on from these rounds.
    let words = [
        "classify2d",
        word(&particles),
        "--classes",
        "5",
        "--out",
        word(&outs[0]),
    ];
    let refused = dewar(words);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("other settings"),
        "{}",
        refused.stderr
    );
}
