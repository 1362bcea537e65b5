//! Payloads come back as written, damage is noticed, and files go when their jobs are forgotten.

use super::*;
use dewar_queue::{Kind, TaskSpec};
use std::sync::Arc;

fn submitted(job: u64, parameters: &Payload) -> Event {
    Event::TasksSubmitted {
        job: JobNumber(job),
        first_index: 0,
        specs: vec![Arc::new(TaskSpec::new(
            Kind {
                name: "em.align".into(),
                version: 1,
            },
            parameters.clone(),
        ))],
    }
}

fn read(reader: &PackReader, payload: &Payload) -> Result<Bytes, PackError> {
    let read = reader.read_all(std::slice::from_ref(payload))?;
    Ok(read.into_iter().next().expect("it is packed"))
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn payloads_survive_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut packs = Packs::open(folder.path()).unwrap();
    let first = packs.append(&[&[1; 5000], &[2; 65_536]]).unwrap();
    let second = packs.append(&[&[3; 4097]]).unwrap();
    let events = [
        submitted(1, &first[0]),
        submitted(1, &first[1]),
        submitted(2, &second[0]),
    ];

    let mut packs = Packs::open(folder.path()).unwrap();
    events.iter().for_each(|event| packs.observe(event));
    packs.sweep();
    let third = packs.append(&[&[4; 4097]]).unwrap();
    let reader = packs.reader();
    assert_eq!(read(&reader, &first[0]).unwrap(), vec![1; 5000]);
    assert_eq!(read(&reader, &first[1]).unwrap(), vec![2; 65_536]);
    assert_eq!(read(&reader, &second[0]).unwrap(), vec![3; 4097]);
    assert_eq!(read(&reader, &third[0]).unwrap(), vec![4; 4097]);
}

#[test]
fn a_changed_byte_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut packs = Packs::open(folder.path()).unwrap();
    let payload = packs.append(&[&[1; 5000]]).unwrap().remove(0);
    let path = fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[9], 77).unwrap();
    assert!(matches!(
        read(&packs.reader(), &payload),
        Err(PackError::Corrupt { .. })
    ));
    file.set_len(4999).unwrap();
    assert!(matches!(
        read(&packs.reader(), &payload),
        Err(PackError::Io { .. })
    ));
}

#[test]
fn a_file_goes_with_its_last_job() {
    let folder = tempfile::tempdir().unwrap();
    let mut packs = Packs::open(folder.path()).unwrap();
    let places = packs.append(&[&[1; 5000], &[2; 5000]]).unwrap();
    packs.observe(&submitted(1, &places[0]));
    packs.observe(&submitted(2, &places[1]));

    // As after a restart: the old file is no longer the current one.
    let mut packs = Packs::open(folder.path()).unwrap();
    packs.observe(&submitted(1, &places[0]));
    packs.observe(&submitted(2, &places[1]));
    packs.sweep();
    let third = packs.append(&[&[3; 5000]]).unwrap();
    assert_eq!(files(folder.path()), 2);
    packs.observe(&Event::JobForgotten { job: JobNumber(1) });
    packs.sweep();
    assert!(read(&packs.reader(), &places[1]).is_ok());
    packs.observe(&Event::JobForgotten { job: JobNumber(2) });
    packs.sweep();
    assert_eq!(files(folder.path()), 1);
    assert!(read(&packs.reader(), &third[0]).is_ok());
}

#[test]
fn a_file_nobody_named_goes_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut packs = Packs::open(folder.path()).unwrap();
    packs.append(&[&[1; 5000]]).unwrap();
    drop(packs);
    let mut packs = Packs::open(folder.path()).unwrap();
    packs.sweep();
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn many_are_read_in_the_order_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut packs = Packs::open(folder.path()).unwrap();
    let content = |n: u32| n.to_le_bytes().repeat(n as usize % 50 + 1);
    let bytes: Vec<_> = (0..2000).map(content).collect();
    let slices: Vec<_> = bytes.iter().map(|bytes| &bytes[..]).collect();
    let mut places = packs.append(&slices[..1500]).unwrap();
    // Another file for the rest.
    packs.current = None;
    places.extend(packs.append(&slices[1500..]).unwrap());
    let reader = packs.reader();
    assert_eq!(reader.read_all(&places).unwrap(), bytes);
    let (every_third, expected): (Vec<_>, Vec<_>) =
        places.iter().cloned().zip(bytes).rev().step_by(3).unzip();
    assert_eq!(reader.read_all(&every_third).unwrap(), expected);
    assert_eq!(reader.open.lock().unwrap().len(), 2);
}

#[test]
fn few_files_stay_open_and_none_that_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut packs = Packs::open(folder.path()).unwrap();
    let reader = packs.reader();
    for n in 0..=OPEN_FILE_COUNT_MAX as u8 {
        packs.current = None;
        let place = packs.append(&[&[n; 40]]).unwrap().remove(0);
        assert_eq!(read(&reader, &place).unwrap(), vec![n; 40]);
    }
    assert_eq!(reader.open.lock().unwrap().len(), OPEN_FILE_COUNT_MAX);
    packs.current = None;
    packs.sweep();
    assert!(reader.open.lock().unwrap().is_empty());
}
