//! A stack of 16 GiB, refined from where it is: what the broker takes of memory, and all of them of the disk.

use super::Bench;
use crate::{
    bench::{machine::peak_resident_mb, report::Target},
    lab,
};
use anyhow::{Context, Result, ensure};
use dewar_sdk::Client;
use dewar_testkit::{BrokerOptions, WorkerOptions, refinement::Case};
use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Bytes of the stack.
const STACK_BYTES: u64 = 16 << 30;

/// Images in it that are particles; the rest is a hole in the file.
const PARTICLES: u64 = 400;

/// Pixels a side, 4 bytes each.
const BOX: u64 = 64;

const IMAGE_BYTES: u64 = BOX * BOX * 4;

/// Of an MRC file without extended header.
const HEADER_BYTES: u64 = 1024;

/// A refinement that takes longer than this is stuck.
const PATIENCE: Duration = Duration::from_secs(1200);

/// Workers of one slot each.
const WORKERS: usize = 2;

impl Bench {
    pub(super) async fn stack(&mut self) -> Result<()> {
        let folder = tempfile::Builder::new()
            .prefix("dewar-")
            .tempdir_in(&self.dir)?;
        let data = folder.path().join("data");
        // What the programs print is no part of what is measured.
        let programs = lab::programs()?.with_logs_in(folder.path());
        let simulate = format!("--particles {PARTICLES} --snr 0.5 --box {BOX} --seed 5");
        let simulate: Vec<&str> = simulate.split(' ').collect();
        let mut case = Case::simulate(&programs, &data, &simulate, &["--iterations", "1"])?;
        let bytes = self.count(STACK_BYTES);
        case.particles = spread(&data, bytes)?;
        let broker = programs.start_broker(&BrokerOptions {
            data_dir: folder.path().join("broker"),
            exports: vec![data],
            listen: "127.0.0.1:0".to_owned(),
        })?;
        let cache = |n| folder.path().join(format!("cache{n}"));
        let mut workers = Vec::new();
        for n in 0..WORKERS {
            workers.push(programs.start_worker(
                &broker,
                &WorkerOptions {
                    name: format!("w{n}"),
                    slot_count: 1,
                    cache_dir: cache(n),
                },
            )?);
        }
        let client = Client::connect(&broker.address, lab::token(&broker.token_file)?).await?;
        let started = Instant::now();
        let mut refine = case.start_refine(&programs, &broker, &folder.path().join("refined"))?;
        let mut first_task = None;
        let log = || fs::read_to_string(folder.path().join("dewar.log")).unwrap_or_default();
        while refine.is_running().with_context(log)? {
            if first_task.is_none() && has_begun(&client).await? {
                first_task = Some(started.elapsed().as_secs_f64());
            }
            ensure!(started.elapsed() < PATIENCE, "the refinement is stuck");
            sleep(Duration::from_millis(20)).await;
        }
        let what = format!("refinement from a stack of {:.1} GiB", gib(bytes));
        self.report.add(
            format!("{what}: first task"),
            first_task.context("a task was seen to run")?,
            "s",
            None,
        );
        let memory = peak_resident_mb(broker.pid())?;
        self.report.add(
            format!("{what}: broker's memory, at most"),
            memory,
            "MB",
            Some(Target::AtMost(300.0)),
        );
        let mut kept = disk_bytes(&folder.path().join("broker"))?;
        for n in 0..WORKERS {
            kept += disk_bytes(&cache(n))?;
        }
        self.report.add(
            format!("{what}: disk of broker and caches"),
            kept as f64 / 1e6,
            "MB",
            Some(Target::AtMost(bytes as f64 / 1e6 / 100.0)),
        );
        Ok(())
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

async fn has_begun(client: &Client) -> Result<bool> {
    let workers = client.workers().await?;
    let begun = |one: &dewar_sdk::WorkerStatus| one.running_count > 0 || one.succeeded_count > 0;
    Ok(workers.iter().any(begun))
}

/// Writes the simulated particles far from one another into a stack of so many bytes, and a STAR file that names just
/// those, whose path is given back.
fn spread(data: &Path, bytes: u64) -> Result<std::path::PathBuf> {
    let small = File::open(data.join("particles.mrcs"))?;
    let image_count = (bytes.saturating_sub(HEADER_BYTES) / IMAGE_BYTES).max(PARTICLES);
    let step = image_count / PARTICLES;
    let large = File::create(data.join("large.mrcs"))?;
    large.set_len(HEADER_BYTES + image_count * IMAGE_BYTES)?;
    let mut header = [0; HEADER_BYTES as usize];
    small.read_exact_at(&mut header, 0)?;
    count_images(&mut header, image_count)?;
    large.write_all_at(&header, 0)?;
    let mut image = vec![0; IMAGE_BYTES as usize];
    for n in 0..PARTICLES {
        small.read_exact_at(&mut image, HEADER_BYTES + n * IMAGE_BYTES)?;
        large.write_all_at(&image, HEADER_BYTES + n * step * IMAGE_BYTES)?;
    }
    let star = fs::read_to_string(data.join("particles.star"))?;
    let path = data.join("large.star");
    let mut out = File::create(&path)?;
    for line in star.lines() {
        writeln!(out, "{}", renamed(line, step))?;
    }
    Ok(path)
}

/// Writes the number of images over that of the small stack, where MRC has it: nz, and mz if it says the same.
fn count_images(header: &mut [u8], image_count: u64) -> Result<()> {
    let image_count = i32::try_from(image_count)?.to_le_bytes();
    let old = header[8..12].to_vec();
    header[8..12].copy_from_slice(&image_count);
    if header[36..40] == old {
        header[36..40].copy_from_slice(&image_count);
    }
    Ok(())
}

/// A line of the STAR file, with image `N@particles.mrcs`, from 1, named as where it is in the large stack.
fn renamed(line: &str, step: u64) -> String {
    let words = line.split_whitespace().map(|word| {
        let number = word
            .strip_suffix("@particles.mrcs")
            .and_then(|number| number.parse::<u64>().ok());
        match number {
            Some(number) => format!("{}@large.mrcs", (number - 1) * step + 1),
            None => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What a folder takes of the disk, holes not counted.
fn disk_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += match metadata.is_dir() {
            true => disk_bytes(&entry.path())?,
            false => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_by_their_places_in_the_large_stack() {
        assert_eq!(renamed("3@particles.mrcs 1.5", 100), "201@large.mrcs 1.5");
        assert_eq!(renamed("000001@particles.mrcs", 7), "1@large.mrcs");
        assert_eq!(renamed("_rlnImageName #1", 7), "_rlnImageName #1");
    }
}
