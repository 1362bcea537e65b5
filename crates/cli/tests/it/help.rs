//! What `--help` says.

use crate::dewar::dewar;

const VERBS: [&str; 20] = [
    "refine",
    "classify2d",
    "simulate",
    "postprocess",
    "fsc",
    "compare",
    "info",
    "status",
    "jobs",
    "tasks",
    "top",
    "web",
    "workers",
    "cancel",
    "rerun",
    "drain",
    "precache",
    "doctor",
    "config",
    "worker-script",
];

#[test]
fn the_front_page_lists_the_verbs_and_the_exit_codes() {
    let help = dewar(["--help"]).ok().stdout;
    let listed: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  "))
        // What a narrow terminal wraps stands further in.
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| *word != "help")
        .collect();
    assert_eq!(listed, VERBS);
    assert!(
        help.contains(
            "Exit codes: 0 done, 1 the work failed, 2 the command line or an input was wrong"
        ),
        "{help}"
    );
}

#[test]
fn every_verb_has_an_example_and_says_what_its_json_holds() {
    for verb in VERBS {
        let help = dewar([verb, "--help"]).ok().stdout;
        assert!(help.contains(&format!("Usage: dewar {verb}")), "{help}");
        assert!(
            help.contains(&format!("\n  dewar {verb} "))
                || help.contains(&format!("\n  dewar {verb}\n")),
            "{help}"
        );
        // A screen is for people alone.
        if verb != "top" {
            assert!(help.contains("JSON keys"), "{help}");
            assert!(help.contains("--json"), "{help}");
        }
    }
}

#[test]
fn without_a_word_the_help_comes_with_the_code_of_a_wrong_command_line() {
    let ran = dewar([""; 0]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("Usage: dewar"), "{ran:?}");
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(
        dewar(["--version"]).ok().stdout,
        format!("dewar {}\n", env!("CARGO_PKG_VERSION"))
    );
}
