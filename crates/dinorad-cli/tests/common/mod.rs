//! A working folder, the command in it, and made input.

use std::{
    collections::BTreeMap,
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Map, Value};
use tempfile::TempDir;

/// The program under test.
pub(crate) const DINORAD: &str = env!("CARGO_BIN_EXE_dinorad");

/// What a finished command said.
pub(crate) struct Said {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e} in\n{}", self.stdout))
    }

    /// Everything that left the program.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Fails unless stderr names every one of `words`.
    pub(crate) fn names(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in: {}", self.stderr);
        }
    }
}

/// A folder that is the working folder of all commands of one test.
pub(crate) struct Desk(TempDir);

impl Desk {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(inside)
    }

    /// The command with `args` split at blanks and `paths` behind them, nothing from outside deciding what it does.
    pub(crate) fn command(&self, args: &str, paths: &[&Path]) -> Command {
        let mut command = Command::new(DINORAD);
        command.current_dir(self.0.path()).args(args.split_whitespace()).args(paths);
        // What most tests do not care about, the command does not assume.
        let takes_encoder = ["embed", "eval", "pca"].iter().any(|name| args.split_whitespace().next() == Some(name));
        let named = ["--backbone", "--embeddings"].iter().any(|o| args.contains(o) || paths.contains(&Path::new(o)));
        if takes_encoder && !named {
            command.args(["--backbone", "untrained"]);
        }
        command.env("HF_HUB_OFFLINE", "1").env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs the command to its end, which must be `code`.
    pub(crate) fn run(&self, args: &str, paths: &[&Path], code: i32) -> Said {
        self.run_in(args, paths, code, &[])
    }

    /// The same with variables of the environment.
    pub(crate) fn run_in(&self, args: &str, paths: &[&Path], code: i32, env: &[(&str, &str)]) -> Said {
        let mut command = assert_cmd::Command::from_std(self.command(args, paths));
        command.envs(env.iter().copied()).timeout(Duration::from_secs(120));
        let done = command.assert().code(code).get_output().clone();
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Said { stdout: text(done.stdout), stderr: text(done.stderr) }
    }

    /// The one feature store below `out`.
    pub(crate) fn store(&self, out: &str) -> PathBuf {
        let entries = fs::read_dir(self.path(out)).unwrap().map(|e| e.unwrap().path());
        let folders: Vec<PathBuf> = entries.filter(|p| p.is_dir()).collect();
        assert_eq!(folders.len(), 1, "{folders:?}");
        folders[0].clone()
    }
}

/// The data of the quickstart.
pub(crate) fn examples() -> PathBuf {
    std::env::var_os("DINORAD_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data"), PathBuf::from)
}

/// Files whose contents are known.
pub(crate) fn golden(inside: &str) -> PathBuf {
    std::env::var_os("DINORAD_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden"), PathBuf::from)
        .join(inside)
}

/// Every file of a folder, by name.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

/// Whether two folders hold the same files, told without printing them.
pub(crate) fn assert_same_files(got: &Path, expected: &Path, what: &str) {
    let (got, expected) = (files(got), files(expected));
    assert!(!expected.is_empty());
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}: names");
    for (name, bytes) in &expected {
        assert!(got[name] == *bytes, "{what}: {name} differs");
    }
}

/// A gray picture whose pixels follow from `seed` alone.
pub(crate) fn png(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let picture = image::GrayImage::from_fn(width, height, |x, y| {
        let mixed =
            (x + 1).wrapping_mul(0x9E37_79B9) ^ (y + 1).wrapping_mul(0x85EB_CA6B) ^ seed.wrapping_mul(0xC2B2_AE35);
        image::Luma([(mixed.wrapping_mul(mixed | 1) >> 24) as u8])
    });
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A folder of `n` pictures of 16 to 40 pixels: `image-000.png` and so on.
pub(crate) fn pictures(folder: &Path, n: u32) {
    fs::create_dir_all(folder).unwrap();
    for i in 0..n {
        let bytes = png(16 + i * 7 % 25, 16 + i * 5 % 25, i + 1);
        fs::write(folder.join(format!("image-{i:03}.png")), bytes).unwrap();
    }
}

/// `bytes` with every `from` replaced by a `to` of the same length; there must be one.
pub(crate) fn patched(mut bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from.as_bytes()).map(|(i, _)| i).collect();
    assert!(!places.is_empty(), "`{from}` is not in the file");
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// A safetensors file without one of its tensors.
pub(crate) fn without_tensor(bytes: &[u8], name: &str) -> Vec<u8> {
    let (length, rest) = bytes.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let mut tensors: Map<String, Value> = serde_json::from_slice(header).unwrap();
    assert!(tensors.remove(name).is_some(), "no tensor {name}");
    let mut kept = Vec::new();
    for (_, tensor) in tensors.iter_mut().filter(|(name, _)| *name != "__metadata__") {
        let range: [usize; 2] = serde_json::from_value(tensor["data_offsets"].clone()).unwrap();
        let start = kept.len();
        kept.extend_from_slice(&data[range[0]..range[1]]);
        tensor["data_offsets"] = serde_json::json!([start, kept.len()]);
    }
    let mut header = serde_json::to_vec(&tensors).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &kept].concat()
}

/// A NIfTI-1 file of bytes with voxels of `spacing` mm (column, row, slice) and a description.
pub(crate) fn nifti(shape: [u16; 3], spacing: [f32; 3], description: &str) -> Vec<u8> {
    let mut file = vec![0; 352];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348_i32.to_le_bytes());
    put(40, &3_u16.to_le_bytes());
    for axis in 0..3 {
        put(42 + 2 * axis, &shape[axis].to_le_bytes());
        put(80 + 4 * axis, &spacing[axis].to_le_bytes());
        // the affine of the scanner: the voxel sizes on the diagonal
        put(280 + 20 * axis, &spacing[axis].to_le_bytes());
    }
    put(48, &[1, 0, 1, 0, 1, 0, 1, 0]);
    put(70, &2_i16.to_le_bytes());
    put(72, &8_i16.to_le_bytes());
    put(76, &1_f32.to_le_bytes());
    put(108, &352_f32.to_le_bytes());
    put(123, &[2]);
    put(148, description.as_bytes());
    put(254, &1_i16.to_le_bytes());
    put(344, b"n+1\0");
    file.extend((0..shape.iter().map(|n| usize::from(*n)).product()).map(|i: usize| (i * 37 % 251) as u8));
    file
}

/// A gray picture of 28 pixels a side: stripes whose direction is the class, under noise that `seed`
/// decides.
pub(crate) fn stripes(class: usize, seed: u32) -> image::GrayImage {
    image::GrayImage::from_fn(28, 28, |x, y| {
        let mixed = (x + 31 * y + 997 * seed + 1).wrapping_mul(0x9E37_79B9);
        let noise = (mixed ^ (mixed >> 15)).wrapping_mul(0x85EB_CA6B) >> 25;
        let stripe = if class == 1 { x / 4 % 2 } else { y / 4 % 2 };
        image::Luma([(stripe * 100 + noise) as u8])
    })
}

/// A folder with a table of pictures, `rows` of split, label and class of the stripes.
pub(crate) fn table(desk: &Desk, name: &str, rows: &[(&str, String, usize)]) {
    let folder = desk.path(name);
    fs::create_dir_all(&folder).unwrap();
    let mut text = String::from("path,label,split\n");
    for (i, (split, label, class)) in rows.iter().enumerate() {
        let seed = i as u32 + name.bytes().map(u32::from).sum::<u32>() * 1000;
        stripes(*class, seed).save(folder.join(format!("image-{i:03}.png"))).unwrap();
        text += &format!("image-{i:03}.png,{label},{split}\n");
    }
    fs::write(folder.join("table.csv"), text).unwrap();
}

/// Two classes in turn, so many in train, val and test.
pub(crate) fn binary(desk: &Desk, name: &str, sizes: [usize; 3], labels: [&str; 2]) {
    let mut rows = Vec::new();
    for (split, n) in ["train", "val", "test"].into_iter().zip(sizes) {
        rows.extend((0..n).map(|i| (split, labels[i % 2].to_owned(), i % 2)));
    }
    table(desk, name, &rows);
}

pub(crate) fn metrics(desk: &Desk, run: &str) -> Value {
    serde_json::from_slice(&fs::read(desk.path(run).join("metrics.json")).unwrap()).unwrap()
}

pub(crate) fn mean(metrics: &Value, split: &str, name: &str) -> f64 {
    metrics["metrics"][split][name]["mean"].as_f64().unwrap_or_else(|| panic!("no {split} {name} in {metrics}"))
}

/// What makes `eval` quick.
pub(crate) const SMALL: &str = "--image-size 28 --bootstrap 30 --features features";

/// A DICOM file of 16 x 16 pixels: a slice of a series of a patient, dark or bright.
pub(crate) fn dicom(patient: &str, series: &str, slice: u16, bright: bool) -> Vec<u8> {
    let element = |tag: u32, vr: &[u8; 2], value: &[u8]| {
        let mut value = value.to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == b"UI" { 0 } else { b' ' });
        }
        let mut out = [((tag >> 16) as u16).to_le_bytes(), (tag as u16).to_le_bytes()].concat();
        out.extend(vr);
        match vr {
            b"OW" | b"OB" => out.extend([&[0, 0], &(value.len() as u32).to_le_bytes()[..]].concat()),
            _ => out.extend((value.len() as u16).to_le_bytes()),
        }
        out.extend(value);
        out
    };
    let text = |tag: u32, vr: &[u8; 2], value: &str| element(tag, vr, value.as_bytes());
    let short = |tag: u32, value: u16| element(tag, b"US", &value.to_le_bytes());
    let instance = format!("1.2.9.{series}.{slice}");
    let pixels: Vec<u8> = (0..256_u16)
        .flat_map(|n| {
            let (x, y) = (n % 16, n / 16);
            let stripe = if bright { x / 4 % 2 } else { y / 4 % 2 };
            (stripe * 800 + (n * 37 + slice * 11) % 100).to_le_bytes()
        })
        .collect();
    let meta = [
        element(0x0002_0001, b"OB", &[0, 1]),
        text(0x0002_0002, b"UI", "1.2.840.10008.5.1.4.1.1.4"),
        text(0x0002_0003, b"UI", &instance),
        text(0x0002_0010, b"UI", "1.2.840.10008.1.2.1"),
    ]
    .concat();
    let length = element(0x0002_0000, b"UL", &(meta.len() as u32).to_le_bytes());
    let set = [
        text(0x0008_0016, b"UI", "1.2.840.10008.5.1.4.1.1.4"),
        text(0x0008_0018, b"UI", &instance),
        text(0x0008_0020, b"DA", "19990101"),
        text(0x0008_0060, b"CS", "MR"),
        text(0x0010_0010, b"PN", "Doe^Canary"),
        text(0x0010_0020, b"LO", patient),
        text(0x0018_0050, b"DS", "2"),
        text(0x0020_000D, b"UI", "1.2.8"),
        text(0x0020_000E, b"UI", &format!("1.2.9.{series}")),
        text(0x0020_0013, b"IS", &slice.to_string()),
        text(0x0020_0032, b"DS", &format!("0\\0\\{}", 2 * slice)),
        text(0x0020_0037, b"DS", "1\\0\\0\\0\\1\\0"),
        text(0x0020_0052, b"UI", "1.2.7"),
        short(0x0028_0002, 1),
        text(0x0028_0004, b"CS", "MONOCHROME2"),
        short(0x0028_0010, 16),
        short(0x0028_0011, 16),
        text(0x0028_0030, b"DS", "1\\1"),
        short(0x0028_0100, 16),
        short(0x0028_0101, 16),
        short(0x0028_0102, 15),
        short(0x0028_0103, 0),
        element(0x7FE0_0010, b"OW", &pixels),
    ]
    .concat();
    [vec![0; 128], b"DICM".to_vec(), length, meta, set].concat()
}
