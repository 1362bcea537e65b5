//! Where a stack named in a STAR file is, and how to name it from elsewhere.

use std::path::{Component, Path, PathBuf};

/// The folders a relative name is looked up from, in order.
pub(super) fn search_folders(star_path: &Path, project_dir: Option<&Path>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = project_dir.map(Path::to_owned).into_iter().collect();
    folders.extend(folder_of(star_path).ancestors().map(Path::to_owned));
    folders.extend(std::env::current_dir().ok());
    let mut unique: Vec<PathBuf> = Vec::with_capacity(folders.len());
    for folder in folders {
        if !unique.contains(&folder) {
            unique.push(folder);
        }
    }
    unique
}

/// RELION's way to say that a file is a stack whatever its name.
const STACK_MARK: &str = ":mrcs";

/// How RELION must be told of a stack: it takes a file that is not called .mrcs for a map.
pub(super) fn as_stack(name: String) -> String {
    let extension = Path::new(&name).extension();
    if extension.is_some_and(|extension| extension.eq_ignore_ascii_case("mrcs"))
        || name.ends_with(STACK_MARK)
    {
        return name;
    }
    name + STACK_MARK
}

/// The first of the folders in which the name is a file. An absolute name is itself.
pub(super) fn find(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let name = name.strip_suffix(STACK_MARK).unwrap_or(name);
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// How the file at `target`, so far called `name`, is called in a STAR file in `folder`.
///
/// A name that is relative to a project folder above both (RELION's custom, found by its
/// `ancestor`) still says what it said, and is kept; any other becomes relative to `folder`.
pub(super) fn name_from(folder: &Path, name: &str, target: &Path, old_folder: &Path) -> String {
    let name = name.strip_suffix(STACK_MARK).unwrap_or(name);
    let target = absolute(target);
    let folder = absolute(folder);
    let names_target =
        |base: &Path| !Path::new(name).is_absolute() && absolute(&base.join(name)) == target;
    let is_project_name = !names_target(&absolute(old_folder))
        && folder
            .ancestors()
            .find(|base| base.join(name).is_file())
            .is_some_and(names_target);
    if names_target(&folder) || is_project_name || Path::new(name).is_absolute() {
        return name.to_owned();
    }
    relative(&folder, &target).to_string_lossy().into_owned()
}

/// The folder of a file; absolute, so that its ancestors go up to the root.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    absolute(folder)
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize()
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}

fn relative(folder: &Path, target: &Path) -> PathBuf {
    let (from, to): (Vec<_>, Vec<_>) =
        (folder.components().collect(), target.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[shared..].iter().map(|_| Component::ParentDir);
    up.chain(to[shared..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_rewritten_only_where_they_would_stop_resolving() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for folder in ["data", "job/extract", "job/refine", "out"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["data/a.mrcs", "job/extract/b.mrcs"] {
            std::fs::write(root.join(file), b"x").unwrap();
        }
        let cases = [
            // name, file, the old STAR's folder, the new one's, expected
            ("a.mrcs", "data/a.mrcs", "data", "data", "a.mrcs"),
            ("a.mrcs", "data/a.mrcs", "data", "out", "../data/a.mrcs"),
            (
                "job/extract/b.mrcs",
                "job/extract/b.mrcs",
                "job/extract",
                "job/refine",
                "job/extract/b.mrcs",
            ),
            (
                "b.mrcs",
                "job/extract/b.mrcs",
                "job/extract",
                "job",
                "extract/b.mrcs",
            ),
        ];
        for (name, file, old, new, expected) in cases {
            let found = name_from(&root.join(new), name, &root.join(file), &root.join(old));
            assert_eq!(found, expected, "{name} from {new}");
        }
        let absolute = root.join("data/a.mrcs").to_string_lossy().into_owned();
        assert_eq!(
            name_from(&root.join("out"), &absolute, Path::new(&absolute), &root),
            absolute
        );
    }
}
