//! Our own style, script and icon: part of the program, and named by what they hold, so that browsers may keep them.

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::LazyLock;

struct Asset {
    /// As in a page: with a part of its hash.
    name: String,
    kind: &'static str,
    text: &'static str,
}

static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        ("app", "css", "text/css", include_str!("assets/app.css")),
        (
            "app",
            "js",
            "text/javascript",
            include_str!("assets/app.js"),
        ),
        (
            "icon",
            "svg",
            "image/svg+xml",
            include_str!("assets/icon.svg"),
        ),
    ]
    .map(|(stem, end, kind, text)| {
        let hash = blake3::hash(text.as_bytes()).to_hex();
        let name = format!("{stem}-{}.{end}", &hash[..12]);
        Asset { name, kind, text }
    })
});

/// Where the page finds its style, its script and its icon.
pub(super) fn paths() -> [String; 3] {
    ASSETS
        .each_ref()
        .map(|asset| format!("/assets/{}", asset.name))
}

pub(super) async fn show(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => {
            let headers = [
                (header::CONTENT_TYPE, asset.kind),
                (header::CACHE_CONTROL, "max-age=31536000, immutable"),
            ];
            (headers, asset.text).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
