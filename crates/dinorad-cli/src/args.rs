//! What can be typed.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Radiology files (X-ray, CT, MRI) to DINOv2 features, and every way of judging them.
#[derive(Debug, Parser)]
#[command(name = "dinorad", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Args {
    /// Say more on stderr
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Worker threads (default: all cores)
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<usize>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole flow on the data in the repository: X-ray, CT and MRI to scores, pictures, report
    Quickstart(QuickstartArgs),
    /// Any files or folders to a feature store that can be resumed
    Embed(EmbedArgs),
    /// Judge an encoder on a data set
    #[command(subcommand)]
    Eval(EvalCommand),
    /// The study's patch-feature pictures of an image or a scan
    Pca(PcaArgs),
    /// What is in a file or folder, without personal data
    Inspect(InspectArgs),
    /// The encoders that `--backbone` knows by name
    Models(ModelsArgs),
    /// Check a data set, or without one this machine and build
    Doctor(DoctorArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
    /// Soft k-nearest-neighbour vote on the final class tokens
    Knn(EvalKnnArgs),
}

/// Number format of the encoder's weights and arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    F32,
    F16,
    Bf16,
}

/// Where the encoder runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceKind {
    /// A GPU when this build has one and the machine too, else the CPU
    Auto,
    Cpu,
    Cuda,
    Metal,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct EncoderArgs {
    /// `untrained[:name][?seed=N]`, a name of `dinorad models`, a Hub id such as facebook/dinov2-small, or the
    /// path of a weights file or folder
    #[arg(long, value_name = "ID|DIR|FILE", default_value = "untrained:tiny")]
    pub(crate) backbone: String,
    /// Number format of the encoder
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) precision: Precision,
    /// Where the encoder runs
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) device: DeviceKind,
    /// Images (or slices) per forward pass
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) batch: usize,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct QuickstartArgs {
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// Folder of the quickstart's data (default: examples/data of the clone)
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Folder for the run
    #[arg(long, value_name = "DIR", default_value = "runs/quickstart")]
    pub(crate) out: PathBuf,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EmbedArgs {
    /// Images, volumes, DICOM folders, or folders of any of these
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Folder of the feature store
    #[arg(long, value_name = "DIR", default_value = "features")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// Side in pixels that images are resized to; a multiple of the patch size
    #[arg(long, value_name = "N", default_value_t = 224)]
    pub(crate) image_size: usize,
    /// Cut volumes along the third stored axis instead of the axial plane of the patient
    #[arg(long, value_name = "canonical|as-stored", default_value = "canonical")]
    pub(crate) orientation: String,
    /// Also keep the patch tokens of the final block (large)
    #[arg(long)]
    pub(crate) patches: bool,
    /// Items per shard file
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) shard_size: usize,
    /// This process's part of the work, such as 3/16 (1-based)
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<String>,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EvalKnnArgs {
    /// Name of the data set's layout (see `dinorad doctor --help`)
    #[arg(long, value_name = "NAME")]
    pub(crate) dataset: String,
    /// The data set's file or folder
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) root: PathBuf,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// Numbers of neighbours, one run for all
    #[arg(long, value_name = "K,K,…", value_delimiter = ',', default_value = "5,20,50,100,200")]
    pub(crate) k: Vec<usize>,
    /// Softmax temperature of the vote
    #[arg(long, value_name = "T", default_value_t = 0.07)]
    pub(crate) temperature: f64,
    /// Side in pixels that images are resized to; a multiple of the patch size
    #[arg(long, value_name = "N", default_value_t = 224)]
    pub(crate) image_size: usize,
    /// strict: gallery = train; paper: gallery = train + validation
    #[arg(long, value_name = "paper|strict", default_value = "strict")]
    pub(crate) protocol: String,
    /// Folder of the run
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Folder of the feature store, shared by runs (default: features, beside the run's folder)
    #[arg(long, value_name = "DIR")]
    pub(crate) features: Option<PathBuf>,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PcaArgs {
    /// Images, volumes or DICOM folders; one basis for all of them
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// The picture to write
    #[arg(long, value_name = "PNG", default_value = "pca.png")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// Side in pixels that images are resized to; a multiple of the patch size
    #[arg(long, value_name = "N", default_value_t = 448)]
    pub(crate) image_size: usize,
    /// Slices shown of each volume, evenly spaced
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) slices: usize,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct InspectArgs {
    /// Files or folders
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Machine-readable
    #[arg(long)]
    pub(crate) json: bool,
    /// Show personal data too (names, ids, dates)
    #[arg(long)]
    pub(crate) phi: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ModelsArgs {
    /// Machine-readable
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// Name of the data set's layout
    #[arg(long, value_name = "NAME", requires = "root")]
    pub(crate) dataset: Option<String>,
    /// The data set's file or folder
    #[arg(long, value_name = "FILE|DIR", requires = "dataset")]
    pub(crate) root: Option<PathBuf>,
    /// Machine-readable
    #[arg(long)]
    pub(crate) json: bool,
}
