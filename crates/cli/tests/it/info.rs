//! `dewar info`.

use crate::dewar::{dewar, keys, word};
use dewar_formats::mrc::{OutputMode, StackWriter, write_map};
use std::{fs, path::Path};

fn map(path: &Path) {
    let values: Vec<f32> = (0..4 * 4 * 4).map(|value| value as f32).collect();
    write_map(path, [4; 3], 1.5, &values, "test").unwrap();
}

#[test]
fn a_map_is_told_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("map.mrc");
    map(&path);
    let json = dewar(["info", "--json", word(&path)]).ok().json();
    let promised = [
        "size",
        "mode",
        "big_endian",
        "pixel_size_angstrom",
        "path",
        "kind",
        "min",
        "max",
        "mean",
        "std",
        "problems",
    ];
    assert!(
        promised.iter().all(|key| keys(&json).contains(key)),
        "{json}"
    );
    assert_eq!(json["kind"], "map");
    assert_eq!(json["size"], serde_json::json!([4, 4, 4]));
    assert_eq!(
        (&json["mode"], &json["pixel_size_angstrom"]),
        (&2.into(), &1.5.into())
    );
    assert_eq!(
        (&json["min"], &json["max"], &json["mean"]),
        (&0.0.into(), &63.0.into(), &31.5.into())
    );
    let std = ((64.0 * 64.0 - 1.0_f64) / 12.0).sqrt();
    assert!((json["std"].as_f64().unwrap() - std).abs() < 1e-6, "{json}");

    let text = dewar(["info", word(&path)]).ok().stdout;
    assert!(
        text.contains("4 x 4 x 4") && text.contains("1.5000 A"),
        "{text}"
    );
}

#[test]
fn particles_are_told_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    dewar([
        "simulate",
        "--particles",
        "4",
        "--box",
        "32",
        "--pixel-size",
        "8",
        "--out",
        word(&out),
    ])
    .ok();
    let of = |name: &str| dewar(["info", "--json", word(&out.join(name))]).ok().json();
    let json = of("particles.star");
    let promised = [
        "kind",
        "count",
        "box_size_px",
        "pixel_size_angstrom",
        "optics_groups",
        "stacks",
        "has_poses",
    ];
    assert!(
        promised.iter().all(|key| keys(&json).contains(key)),
        "{json}"
    );
    assert_eq!(
        (&json["kind"], &json["count"]),
        (&"particles".into(), &4.into())
    );
    assert_eq!(
        (&json["box_size_px"], &json["pixel_size_angstrom"]),
        (&32.into(), &8.0.into())
    );
    assert_eq!(
        (&json["stacks"], &json["has_poses"]),
        (&serde_json::json!(["particles.mrcs"]), &false.into())
    );
    assert_eq!(of("truth.star")["has_poses"], true);
    assert_eq!(of("particles.mrcs")["kind"], "stack");
}

#[test]
fn several_files_are_an_array() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.mrc"), folder.path().join("b.mrc"));
    map(&a);
    map(&b);
    let json = dewar(["info", "--json", word(&a), word(&b)]).ok().json();
    assert_eq!(json.as_array().map(Vec::len), Some(2), "{json}");
}

#[test]
fn bad_files_are_code_2_and_say_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    map(&path("cut.mrc"));
    let whole = fs::read(path("cut.mrc")).unwrap();
    fs::write(path("cut.mrc"), &whole[..whole.len() - 1]).unwrap();
    dewar(["info", word(&path("cut.mrc"))]).fails(2, &["cut.mrc", "truncated"]);

    fs::write(path("empty.mrc"), "").unwrap();
    dewar(["info", word(&path("empty.mrc"))]).fails(2, &["empty.mrc", "empty"]);

    let mut stack =
        StackWriter::create(&path("nan.mrcs"), [4, 4], 1.0, OutputMode::Float32, "test").unwrap();
    stack.append(&[f32::NAN; 16]).unwrap();
    stack.finish().unwrap();
    let ran = dewar(["info", word(&path("nan.mrcs"))]).fails(2, &["1 problem found"]);
    assert!(
        ran.stdout.contains("image 1") && ran.stdout.contains("NaN"),
        "{ran:?}"
    );

    fs::write(
        path("text.star"),
        "data_particles\n\nloop_\n_rlnImageName #1\n000001@gone.mrcs\n",
    )
    .unwrap();
    let ran = dewar(["info", word(&path("text.star"))]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stdout.contains("_rlnDefocusU"), "{ran:?}");
}

#[test]
fn one_bad_file_does_not_hide_the_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.mrc");
    map(&good);
    let ran = dewar(["info", "nowhere.mrc", word(&good)]).fails(2, &["nowhere.mrc"]);
    assert!(ran.stdout.contains("good.mrc"), "{ran:?}");
}

#[test]
fn real_files_are_read_whole() {
    let Some(data) = dewar_testkit::shared_data("real_files_are_read_whole") else {
        return;
    };
    let of = |name: &str| {
        let path = data.join(name);
        dewar(["info", "--json", word(&path)]).ok().json()
    };
    let ribosome = of("70S_ribosome_65.mrc");
    assert_eq!(ribosome["size"], serde_json::json!([65, 65, 65]));
    assert!(ribosome["pixel_size_angstrom"].is_null(), "{ribosome}");
    assert_eq!(of("casx_128.mrc.gz")["kind"], "map");
    for (name, kind) in [
        ("groel600/truth.mrc", "map"),
        ("groel600/reference.mrc", "map"),
        ("groel600/particles.mrcs", "stack"),
        ("groel600/particles.star", "particles"),
        ("relion31.mrcs", "stack"),
        ("relion31.star", "particles"),
        // Its header takes it for a map, as old ones do; the particle file knows better.
        ("empiar_10076_7.mrc", "map"),
    ] {
        let json = of(name);
        assert_eq!(json["kind"], kind, "{name}");
        assert_eq!(json["problems"], serde_json::json!([]), "{name}");
    }
    let old_layout = of("empiar_10076_7.star");
    assert_eq!(
        (&old_layout["count"], &old_layout["has_poses"]),
        (&7.into(), &false.into())
    );
    let groel = of("groel600/truth.star");
    assert_eq!(
        (&groel["count"], &groel["has_poses"]),
        (&600.into(), &true.into())
    );
    assert_eq!(groel["half_set_counts"], serde_json::json!([300, 300]));
}
