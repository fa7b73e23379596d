//! Files and volumes that are the channels of one case.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use dinorad_core::Affine;
use dinorad_io::{Format, nifti, read_grid_header};

use crate::{
    Input, InputKind, Inputs,
    files::{file_name, stem},
};

/// How many files are taken for channels of one case where nothing but their names and grids tells: more than any
/// protocol has sequences, fewer than a study has patients.
const MOST: usize = 8;
/// Affines that differ by less are the same.
const SAME: f64 = 1e-3;

/// A name `BASE_0000` as nnU-Net gives it to the file of a channel: the base and the channel.
///
/// ```text
/// case_0001 -> (case, 1)
/// ```
pub(crate) fn numbered(stem: &str) -> Option<(&str, usize)> {
    let (base, digits) = stem.rsplit_once('_')?;
    let four = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit());
    (four && !base.is_empty()).then(|| digits.parse().ok().map(|n| (base, n)))?
}

/// The ending of a file's name behind its stem, with the dot.
pub(crate) fn ending(path: &Path) -> String {
    file_name(path).strip_prefix(&stem(path)).unwrap_or_default().to_owned()
}

/// The file of another channel beside that of one; nothing for a name that tells no channel.
pub(crate) fn sibling(path: &Path, channel: usize) -> Option<PathBuf> {
    let of = stem(path);
    let (base, _) = numbered(&of)?;
    Some(path.with_file_name(format!("{base}_{channel:04}{}", ending(path))))
}

/// What a header says of the grid.
struct Grid {
    sizes: [u64; 3],
    volumes: u64,
    affine: Option<Affine>,
}

impl Grid {
    fn of(path: &Path, format: Format) -> Option<Self> {
        if format == Format::Nifti {
            let header = nifti::read_header(path).ok()?;
            let affine = header.affine(path).ok().map(|(affine, _)| affine);
            return Some(Self { sizes: header.volume_dims(), volumes: header.volumes()?, affine });
        }
        let header = read_grid_header(path).ok()?;
        Some(Self { sizes: header.sizes, volumes: header.volumes, affine: None })
    }

    fn is_that_of(&self, other: &Self) -> bool {
        let near = |a: &Affine, b: &Affine| {
            let (a, b) = (a.rows(), b.rows());
            a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| (a - b).abs() < SAME)
        };
        let placed = match (&self.affine, &other.affine) {
            (Some(a), Some(b)) => near(a, b),
            _ => true,
        };
        self.sizes == other.sizes && placed
    }
}

/// The file of an input that may hold a volume, and its format.
fn grid_file(input: &Input) -> Option<(&Path, Format)> {
    match input.kind {
        InputKind::File(format) if format.is_grid() => Some((&input.path, format)),
        _ => None,
    }
}

/// Whether a folder is one of nnU-Net's, where its rule of names always holds.
fn is_of_nnunet(folder: &Path) -> bool {
    let beside = folder.parent().is_some_and(|root| root.join("dataset.json").is_file());
    file_name(folder).starts_with("imagesT") && beside
}

impl Inputs {
    /// The cases that these files make for somebody who looks at one channel, counted from 0.
    ///
    /// Volumes `NAME_0000`, `NAME_0001` … of one folder, numbered without a gap and on one grid, are channels of the
    /// case `NAME`: the file of the wanted one stays, under that name. A lone `NAME_0000` is the case `NAME`, too.
    /// Names that only look like it (another grid, numbers that begin elsewhere, more than eight outside a folder of
    /// nnU-Net's) and pictures stay cases by themselves. Of a file that holds several volumes the wanted one is read.
    /// A case without the wanted channel is [`InputKind::Bad`].
    ///
    /// Headers are read, nothing else.
    ///
    /// # Source
    /// nnU-Net's names, <https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md>.
    #[must_use]
    pub fn of_channel(mut self, channel: usize) -> Self {
        self.channel = channel;
        let grids: Vec<Option<Grid>> = self
            .inputs
            .iter()
            .map(|input| grid_file(input).and_then(|(path, format)| Grid::of(path, format)))
            .collect();
        let mut groups: BTreeMap<(PathBuf, String, String), Vec<(usize, usize)>> = BTreeMap::new();
        for (at, input) in self.inputs.iter().enumerate() {
            let Some((path, _)) = grid_file(input) else { continue };
            if let Some((base, number)) = numbered(&stem(path)) {
                let folder = path.parent().map(Path::to_owned).unwrap_or_default();
                groups.entry((folder, base.to_owned(), ending(path))).or_default().push((number, at));
            }
        }
        let ids: BTreeSet<String> = self.inputs.iter().map(|input| input.id.clone()).collect();
        let mut gone = BTreeSet::new();
        for ((folder, base, ending), mut files) in groups {
            files.sort_unstable();
            let n = files.len();
            let gapless = files.iter().enumerate().all(|(i, (number, _))| i == *number);
            let known: Vec<&Grid> = files.iter().filter_map(|(_, at)| grids[*at].as_ref()).collect();
            let one_grid = known.windows(2).all(|pair| pair[0].is_that_of(pair[1]));
            if !gapless || !one_grid || (n > MOST && !is_of_nnunet(&folder)) {
                continue;
            }
            // the file of another channel stands for the case where the wanted one is not there
            let (number, at) = files.get(channel).copied().unwrap_or(files[0]);
            let name = format!("{base}{ending}");
            let id =
                self.inputs[at].id.strip_suffix(&file_name(&self.inputs[at].path)).map(|rest| format!("{rest}{name}"));
            let Some(id) = id.filter(|id| !ids.contains(id)) else { continue };
            gone.extend(files.iter().map(|(_, at)| *at).filter(|other| *other != at));
            if n > 1 {
                self.channel_cases.push(id.clone());
            }
            let input = &mut self.inputs[at];
            input.id = id;
            if number != channel {
                let has = if n == 1 { "channel 0 alone".to_owned() } else { format!("channels 0 to {}", n - 1) };
                input.kind = InputKind::Bad { reason: format!("it has {has}, channel {channel} is wanted") };
            }
        }
        for (at, input) in self.inputs.iter_mut().enumerate() {
            let several = grids[at].as_ref().is_some_and(|grid| grid.volumes > 1);
            if several && !gone.contains(&at) && input.bad().is_none() {
                input.volume = Some(channel);
                self.volume_cases.push(input.id.clone());
            }
        }
        let mut at = 0;
        self.inputs.retain(|_| {
            at += 1;
            !gone.contains(&(at - 1))
        });
        self
    }

    /// What [`of_channel`](Self::of_channel) made of channels: a line each, with a name as an example where names may
    /// be told.
    pub fn channel_notices(&self, named: bool) -> Vec<String> {
        let such = |ids: &[String]| match ids.first() {
            Some(first) if named => format!(" (such as {first})"),
            _ => String::new(),
        };
        let channel = self.channel;
        let files = (!self.channel_cases.is_empty()).then(|| {
            let n = self.channel_cases.len();
            format!("{n} cases have a file for every channel: channel {channel} is read{}", such(&self.channel_cases))
        });
        let volumes = (!self.volume_cases.is_empty()).then(|| {
            let n = self.volume_cases.len();
            format!("{n} files hold several volumes: number {channel} is read{}", such(&self.volume_cases))
        });
        files.into_iter().chain(volumes).collect()
    }
}

#[cfg(test)]
mod tests {
    use dinorad_io::{Volume, nifti};
    use ndarray::Array3;

    use super::*;
    use crate::{Pixels, discover_inputs};

    fn write(path: &Path, value: f32, x: f64, width: usize) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let rows = [[1.0, 0.0, 0.0, x], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]];
        let mut values = Array3::from_elem((2, 4, width), value);
        values[[0, 0, 0]] = -1.0;
        nifti::write_volume(path, &Volume::new(values, Affine::new(rows).unwrap())).unwrap();
    }

    fn value(input: &Input) -> f32 {
        let Pixels::Volume(volume) = input.load(&Default::default()).unwrap() else { panic!("no volume") };
        volume.data[[1, 2, 2]]
    }

    fn ids(found: &Inputs) -> Vec<&str> {
        found.inputs.iter().map(|input| input.id.as_str()).collect()
    }

    #[test]
    fn names_of_channels() {
        assert_eq!(numbered("case_0001"), Some(("case", 1)));
        assert_eq!(numbered("a_0000_b_0012"), Some(("a_0000_b", 12)));
        for other in ["case", "case_001", "case_00001", "_0000", "case_00a1", "0000"] {
            assert_eq!(numbered(other), None, "{other}");
        }
        assert_eq!(sibling(Path::new("x/a_0000_b_0000.nii.gz"), 2), Some("x/a_0000_b_0002.nii.gz".into()));
    }

    #[test]
    fn files_of_channels_are_one_case() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (case, x) in [("one", 0.0), ("two", 5.0)] {
            for channel in 0..3 {
                write(&at(&format!("{case}_{channel:04}.nii.gz")), 10.0 * channel as f32, x, 5);
            }
        }
        write(&at("alone_0000.nii.gz"), 7.0, 0.0, 5);
        write(&at("plain.nii.gz"), 7.0, 0.0, 5);
        let found = discover_inputs(&[dir.path().to_owned()]);
        assert_eq!(found.inputs.len(), 8);
        let first = found.clone().of_channel(0);
        assert_eq!(ids(&first), ["alone.nii.gz", "one.nii.gz", "plain.nii.gz", "two.nii.gz"]);
        assert_eq!(value(&first.inputs[1]), 0.0);
        assert!(
            first.channel_notices(true)[0]
                .contains("2 cases have a file for every channel: channel 0 is read (such as one.nii.gz)")
        );
        assert!(!first.channel_notices(false)[0].contains("one"));
        let second = found.clone().of_channel(2);
        assert_eq!(value(&second.inputs[1]), 20.0);
        assert!(second.inputs[0].bad().unwrap().contains("channel 0 alone, channel 2 is wanted"));
        assert!(second.inputs[2].bad().is_none(), "a name without a number tells no channel");
        let none = found.of_channel(3);
        assert!(none.inputs[3].bad().unwrap().contains("channels 0 to 2, channel 3"));
    }

    #[test]
    fn names_that_only_look_like_channels_stay() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        // patients of unlike sizes; numbers that begin at one; too many; a name that is there already
        write(&at("a/patient_0000.nii.gz"), 0.0, 0.0, 5);
        write(&at("a/patient_0001.nii.gz"), 0.0, 0.0, 6);
        write(&at("b/patient_0001.nii.gz"), 0.0, 0.0, 5);
        write(&at("b/patient_0002.nii.gz"), 0.0, 0.0, 5);
        write(&at("c/patient_0000.nii.gz"), 0.0, 0.0, 5);
        write(&at("c/patient.nii.gz"), 0.0, 0.0, 5);
        write(&at("d/patient_0000.nii.gz"), 0.0, 0.0, 5);
        write(&at("d/patient_0001.nii.gz"), 0.0, 3.0, 5);
        (0..9).for_each(|i| write(&at(&format!("many/p_{i:04}.nii")), 0.0, 0.0, 5));
        let found = discover_inputs(&[dir.path().to_owned()]);
        let before: Vec<String> = ids(&found).into_iter().map(str::to_owned).collect();
        let after = found.of_channel(0);
        assert_eq!(ids(&after), before);
        assert!(after.channel_notices(true).is_empty());
        // in a folder of nnU-Net's the rule always holds
        (0..9).for_each(|i| write(&at(&format!("set/imagesTs/p_{i:04}.nii")), i as f32, 0.0, 5));
        std::fs::write(at("set/dataset.json"), "{}").unwrap();
        let found = discover_inputs(&[at("set/imagesTs")]).of_channel(8);
        assert_eq!((ids(&found), value(&found.inputs[0])), (vec!["p.nii"], 8.0));
    }
}
