use super::*;
use crate::{
    Figures, Fsc, Grey, Guinier, Line, MapViews, Masked, ParticleView, Poses, Round, Sky,
    StageTimes, Worker, pictures,
};
use scraper::{Html, Selector};

const NAMES: [&str; 16] = [
    "fsc",
    "guinier",
    "slice_z",
    "slice_y",
    "slice_x",
    "projection_z",
    "projection_y",
    "projection_x",
    "directions",
    "resolution",
    "pose_change",
    "stage_time",
    "weights",
    "shifts",
    "particles",
    "worker_time",
];

fn grey(width: usize) -> Grey {
    let values = (0..width * width).map(|value| (value as f32).sin());
    Grey::new(width, values.collect()).unwrap()
}

fn figures() -> Figures {
    let falling: Vec<f64> = (0..33)
        .map(|shell| (-f64::from(shell) / 12.0).exp())
        .collect();
    let stages = StageTimes {
        align: 8.0,
        insert: 1.5,
        sum: 0.25,
    };
    let round = |iteration: usize| Round {
        iteration,
        limit_angstrom: 20.0 / iteration as f64,
        resolution_angstrom: 24.0 / iteration as f64,
        change_deg: (iteration > 1).then_some(3.0),
        change_angstrom: (iteration > 1).then_some(0.5),
        seconds: 6.0,
        stages,
    };
    let mut sky = Sky::default();
    (0..50).for_each(|at| sky.add([f64::from(at).cos(), f64::from(at).sin(), 0.0]));
    Figures {
        fsc: Some(Fsc {
            box_angstrom: 256.0,
            unmasked: falling.clone(),
            masked: Some(Masked {
                masked: falling.clone(),
                randomised: falling.iter().map(|value| value * 0.1).collect(),
                corrected: falling.clone(),
                resolution_angstrom: Some(8.5),
            }),
        }),
        guinier: Some(Guinier {
            box_angstrom: 256.0,
            amplitudes: falling.clone(),
            line: Some(Line {
                slope: -40.0,
                intercept: 1.0,
                from_angstrom: 10.0,
                to_angstrom: 8.0,
                b_factor_angstrom2: -160.0,
            }),
        }),
        map: Some(MapViews {
            pixel_size_angstrom: 4.0,
            slices: [grey(16), grey(16), grey(16)],
            projections: [grey(16), grey(16), grey(16)],
        }),
        poses: Some(Poses {
            sky,
            weights: falling.clone(),
            shifts_angstrom: falling,
        }),
        rounds: (1..=3).map(round).collect(),
        final_stages: Some(stages),
        particles: vec![ParticleView {
            number: 7,
            particle: grey(16),
            reprojection: grey(16),
            weight: 0.9,
        }],
        workers: vec![Worker {
            name: "titan <1> & \"co\"".to_owned(),
            task_count: 12,
            stages,
        }],
    }
}

fn page(stage: Stage) -> Page {
    let pictures = pictures(&figures()).into_iter().map(Result::unwrap);
    Page {
        title: "Refinement of <particles> & \"more\".star".to_owned(),
        stage,
        round: 3,
        rounds_max: 12,
        written_at: "2026-01-02 03:04:05 UTC".to_owned(),
        results: vec![Fact::new("resolution", "8.50 Å")],
        warnings: vec!["the mask is <too> tight".to_owned()],
        pictures: pictures.collect(),
        sections: vec![Section {
            title: "Settings".to_owned(),
            facts: vec![Fact::new("seed", 1)],
        }],
    }
}

fn select<'a>(html: &'a Html, selector: &str) -> Vec<scraper::ElementRef<'a>> {
    html.select(&Selector::parse(selector).unwrap()).collect()
}

#[test]
fn the_page_is_well_formed_and_has_every_picture_with_words() {
    let html = Html::parse_document(&page(Stage::Finished).to_html());
    assert!(html.errors.is_empty(), "{:?}", html.errors);
    let ids: Vec<_> = select(&html, "figure")
        .iter()
        .filter_map(|figure| figure.attr("id"))
        .collect();
    assert_eq!(ids, NAMES);
    for figure in select(&html, "figure") {
        let words = |selector: &str, attribute: &str| {
            let found = figure.select(&Selector::parse(selector).unwrap()).next();
            found.and_then(|found| found.attr(attribute).map(str::to_owned))
        };
        let told = words("img", "alt").or_else(|| words("svg[role=img]", "aria-label"));
        assert!(
            told.is_some_and(|told| told.len() > 10),
            "{:?}",
            figure.attr("id")
        );
    }
    assert_eq!(select(&html, "figure img").len(), 7);
    let title: String = select(&html, "h1")[0].text().collect();
    assert_eq!(title, "Refinement of <particles> & \"more\".star");
}

#[test]
fn nothing_is_fetched_from_anywhere() {
    let text = page(Stage::Finished).to_html();
    let html = Html::parse_document(&text);
    assert!(select(&html, "script, link, iframe, object, image, [href]").is_empty());
    for image in select(&html, "img") {
        assert!(
            image
                .attr("src")
                .unwrap()
                .starts_with("data:image/png;base64,")
        );
    }
    let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
    assert!(
        !elsewhere.contains("http:")
            && !elsewhere.contains("https:")
            && !elsewhere.contains("url(")
    );
}

fn running(doing: Option<Doing>) -> Stage {
    Stage::Running(Some(Running {
        doing,
        note: Some(("waiting: no worker is there".to_owned(), "03:04".to_owned())),
        dead_from: "2026-01-02 03:06:05 UTC".to_owned(),
    }))
}

#[test]
fn only_a_running_page_reads_itself_again() {
    for stage in [
        running(None),
        Stage::Stopped,
        Stage::Failed("no".to_owned()),
        Stage::Finished,
    ] {
        let html = Html::parse_document(&page(stage.clone()).to_html());
        assert!(html.errors.is_empty(), "{stage:?}: {:?}", html.errors);
        let refreshes = select(&html, "meta[http-equiv=refresh]").len();
        assert_eq!(refreshes, usize::from(matches!(stage, Stage::Running(_))));
        let framed = Html::parse_document(&page(stage.clone()).to_framed_html());
        assert_eq!(select(&framed, "meta[http-equiv=refresh]").len(), 0);
        let state = select(&html, "main")[0].attr("data-state");
        assert_eq!(state, Some(stage.word()));
    }
}

#[test]
fn a_page_says_where_the_run_is() {
    let doing = Doing {
        what: "Round 4, comparing detail to 9.1 Å".to_owned(),
        told: "37 of 120 tasks done".to_owned(),
        done: 37,
        total: 120,
    };
    let html = page(running(Some(doing))).to_html();
    for told in [
        "round 3 of at most 12 is done",
        "<progress max=\"12\" value=\"3\"",
        "Round 4, comparing detail to 9.1 Å: 37 of 120 tasks done.",
        "<progress max=\"120\" value=\"37\"",
        "waiting: no worker is there",
        "later than <strong>2026-01-02 03:06:05 UTC</strong> now, the run was killed",
    ] {
        assert!(html.contains(told), "{told}");
    }
    assert!(
        page(Stage::Stopped)
            .to_html()
            .contains("Stopped after round 3")
    );
    let failed = page(Stage::Failed("the disk <is> full".to_owned())).to_html();
    assert!(failed.contains("Failed after round 3") && failed.contains("the disk &lt;is&gt; full"));
}

#[test]
fn files_stand_alone() {
    for picture in page(Stage::Finished).pictures {
        let bytes = picture.file_bytes();
        let name = picture.file_name();
        match picture.content {
            Content::Png(_) => {
                assert!(name.ends_with(".png"));
                assert!(bytes.starts_with(b"\x89PNG"), "{name}");
            }
            Content::Svg(_) => {
                assert!(name.ends_with(".svg"));
                let text = String::from_utf8(bytes).unwrap();
                assert!(
                    text.starts_with("<svg class=\"chart\" role=\"img\""),
                    "{name}"
                );
                assert!(
                    text.contains("<style>") && text.trim_end().ends_with("</svg>"),
                    "{name}"
                );
            }
        }
    }
}
