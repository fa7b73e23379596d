//! What can be typed.

mod describe;
mod pretrain;
mod segment;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub(crate) use describe::as_typed;
pub(crate) use pretrain::{DistillArgs, KnnArgs, LearningArgs, PretrainArgs, UnlabelledArgs};
pub(crate) use segment::{SegmentCommand, SegmentEvaluateArgs, SegmentPredictArgs, SegmentTrainArgs};

use crate::{build::VERSION, pseudonyms::PseudonymArgs};

/// Radiology files (X-ray, CT, MRI) to DINOv2 features, and every way of judging them.
#[derive(Debug, Parser)]
#[command(name = "dinorad", version, long_version = VERSION.as_str(), propagate_version = true)]
#[command(max_term_width = 100)]
pub(crate) struct Args {
    /// Say more on stderr
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Say nothing on stderr but errors and what failed: no notes, no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Worker threads (default: all cores)
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<usize>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one in a run")]
pub(crate) enum Command {
    /// The whole flow on the data in the repository: X-ray, CT and MRI to scores, pictures, report
    #[command(after_help = "Example:\n  dinorad quickstart --backbone facebook/dinov2-small -o runs/quickstart")]
    Quickstart(QuickstartArgs),
    /// Any files or folders to a feature store that can be resumed
    #[command(after_help = "Example:\n  dinorad embed scans --backbone facebook/dinov2-small -o embedded")]
    Embed(EmbedArgs),
    /// Judge an encoder on a data set
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Train inside an encoder on a data set (full, LoRA, BitFit, norms, last blocks), and judge it
    ///
    /// A training that was broken off is gone on with when the same is typed again.
    #[command(
        after_help = "Example:\n  dinorad finetune --method lora --dataset csv --root table.csv --backbone untrained \\\n    --image-size 28 --steps 2 --no-controls -o runs/lora"
    )]
    Finetune(FinetuneArgs),
    /// Masks of scans: train what draws them, draw them, judge them
    #[command(subcommand)]
    Segment(SegmentCommand),
    /// An encoder learns from images without labels: DINOv2's objective, views that know the modality
    ///
    /// A training that was broken off is gone on with when the same is typed again.
    #[command(
        after_help = "Example:\n  dinorad pretrain scans --image-size 56 --local-size 28 --local-crops 2 \\\n    --prototypes 64 --hidden 32 --batch-size 4 --steps 2 -o runs/pretrained"
    )]
    Pretrain(PretrainArgs),
    /// A small encoder learns the tokens of a large one on images without labels
    #[command(
        after_help = "Example:\n  dinorad distill scans --teacher facebook/dinov2-small --grid 4 --views 1 \\\n    --batch-size 4 --steps 2 -o runs/distilled"
    )]
    Distill(DistillArgs),
    /// The model of a run on new files: a probability for every class or finding
    #[command(after_help = "Example:\n  dinorad predict --run runs/logreg new -o predictions.csv")]
    Predict(PredictArgs),
    /// Experiments that a file describes, or the one of a run again
    #[command(after_help = "Example:\n  dinorad run runs/knn/config.toml -o runs/again")]
    Run(RunArgs),
    /// A page over runs, from their folders alone
    #[command(after_help = "Example:\n  dinorad report runs -o runs/report.html")]
    Report(ReportArgs),
    /// Two runs beside each other: paired tests on the cases both have judged, and how they differ
    #[command(after_help = "Example:\n  dinorad compare runs/knn runs/logreg")]
    Compare(CompareArgs),
    /// Features of a store as Parquet, npy or CSV
    #[command(after_help = "Example:\n  dinorad export embedded -o features.parquet")]
    Export(ExportArgs),
    /// What the feature stores in a folder hold, and tidying them
    #[command(subcommand)]
    Store(StoreCommand),
    /// The study's patch-feature pictures of an image or a scan
    #[command(after_help = "Example:\n  dinorad pca scans --backbone facebook/dinov2-small -o pca.png")]
    Pca(PcaArgs),
    /// What is in a file or folder, without personal data
    #[command(after_help = "Example:\n  dinorad inspect scans")]
    Inspect(InspectArgs),
    /// The encoders that `--backbone` knows by name
    #[command(after_help = "Example:\n  dinorad models --json")]
    Models(ModelsArgs),
    /// Check a data set, or without one this machine and build
    #[command(after_help = "Example:\n  dinorad doctor --dataset csv --root table.csv")]
    Doctor(DoctorArgs),
    /// The data sets and layouts that `--dataset` knows by name
    #[command(after_help = "Example:\n  dinorad datasets")]
    Datasets(DatasetsArgs),
    /// Which case of a data set is in which part, as a table; no file is moved
    ///
    /// Patients are told apart by salted hashes of their numbers. Before a table leaves the house, set
    /// DINORAD_SALT to a secret of yours: short numbers can be found by trying them all.
    #[command(after_help = "Example:\n  dinorad splits csv table.csv --shares 0.7,0.15,0.15 -o parts.csv")]
    Splits(SplitsArgs),
    /// Completions for a shell: bash, zsh, fish, elvish, powershell
    #[command(after_help = "Example:\n  dinorad completions bash > dinorad.bash")]
    Completions(CompletionsArgs),
    /// Manual pages, one for every command
    #[command(after_help = "Example:\n  dinorad man man1")]
    Man(ManArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ManArgs {
    /// Folder to write them to
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
    /// Soft k-nearest-neighbour vote
    #[command(
        after_help = "Example:\n  dinorad eval knn --dataset csv --root table.csv \\\n    --backbone facebook/dinov2-small --k 1,5,20 -o runs/knn"
    )]
    Knn(EvalKnnArgs),
    /// Multi-label k nearest neighbours, for data sets of findings
    #[command(visible_alias = "ml-knn")]
    #[command(
        after_help = "Example:\n  dinorad eval mlknn --dataset csv --root findings.csv \\\n    --backbone facebook/dinov2-small --k 5,20 -o runs/mlknn"
    )]
    Mlknn(EvalMlknnArgs),
    /// L2-regularised logistic regression over a path of inverse regularisations C
    #[command(
        after_help = "Example:\n  dinorad eval logreg --dataset csv --root table.csv --backbone facebook/dinov2-small -o runs/logreg"
    )]
    Logreg(EvalLogregArgs),
    /// Linear probes by SGD, a whole grid of settings trained in one pass
    #[command(
        after_help = "Example:\n  dinorad eval linear --dataset csv --root table.csv \\\n    --backbone facebook/dinov2-small --epochs 10 -o runs/linear"
    )]
    Linear(EvalLinearArgs),
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

/// What an encoder runs on; nothing of it decides a number.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct HardwareArgs {
    /// Where the encoder runs
    #[arg(long, value_enum, default_value = "auto", help_heading = "Hardware")]
    pub(crate) device: DeviceKind,
    /// Images (or slices) per forward pass
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Hardware")]
    pub(crate) batch: usize,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct EncoderArgs {
    /// `untrained[:name][?seed=N]`, a name of `dinorad models`, a Hub id such as facebook/dinov2-small, or the
    /// path of a weights file or folder. `eval` takes several, separated by commas or each with its
    /// own --backbone, and compares them with the first
    #[arg(long, value_name = "ID|DIR|FILE", value_delimiter = ',', help_heading = "Encoder")]
    pub(crate) backbone: Vec<String>,
    /// Number format of the encoder
    #[arg(long, value_enum, default_value = "f32", help_heading = "Encoder")]
    pub(crate) precision: Precision,
    /// Which copy of a checkpoint that holds the encoder twice, trained and averaged (EMA, teacher)
    #[arg(long, value_name = "average|raw", default_value = "average", value_parser = ["average", "raw"], help_heading = "Encoder")]
    pub(crate) weights: String,
    #[command(flatten)]
    pub(crate) hardware: HardwareArgs,
    /// Mean of red, green, blue on the 0..1 scale, in place of the encoder's own (see `dinorad models`)
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', requires = "std", help_heading = "Encoder")]
    pub(crate) mean: Option<Vec<f32>>,
    /// Standard deviation of red, green, blue, in place of the encoder's own
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', requires = "mean", help_heading = "Encoder")]
    pub(crate) std: Option<Vec<f32>>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct QuickstartArgs {
    /// The encoder, as elsewhere (default: a small one with random weights, which the clone can make)
    #[arg(long, value_name = "ID|DIR|FILE")]
    pub(crate) backbone: Option<String>,
    #[command(flatten)]
    pub(crate) hardware: HardwareArgs,
    /// Folder of the quickstart's data (default: examples/data of the clone)
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Folder for the run
    #[arg(short, long, value_name = "DIR", default_value = "runs/quickstart")]
    pub(crate) out: PathBuf,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Print what came out as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EmbedArgs {
    /// Images, volumes, DICOM folders, or folders of any of these
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Folder of the feature store
    #[arg(short, long, value_name = "DIR", default_value = "features")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// Side in pixels that images are resized to; a multiple of the patch size (default: what the
    /// encoder is usually given, 224 for most)
    #[arg(long, value_name = "N")]
    pub(crate) image_size: Option<usize>,
    /// Cut volumes along the third stored axis instead of the axial plane of the patient
    #[arg(long, value_name = "canonical|as-stored", default_value = "canonical")]
    pub(crate) orientation: String,
    /// Scale of the values: auto (CT in HU from -1024 to 600, other scans by robust limits, 8 bits as they
    /// are), none, robust, file (the file's window), a CT window such as lung, or CENTER/WIDTH
    #[arg(long, value_name = "SCALE", default_value = "auto")]
    pub(crate) intensity: String,
    /// What becomes of X-rays whose low values are bright (MONOCHROME1): turned over, as viewers do, or left
    #[arg(long, value_name = "inverted|as-stored", default_value = "inverted")]
    pub(crate) monochrome1: String,
    /// What becomes of DICOM series that are no one stack (several views, echoes, b-values, phases, time
    /// points): divided into named cases, or left whole and refused
    #[arg(long, value_name = "auto|none", default_value = "auto", value_parser = ["auto", "none"])]
    pub(crate) series_split: String,
    /// Of series with several echoes the one to embed (EchoNumbers)
    #[arg(long, value_name = "N")]
    pub(crate) echo: Option<i64>,
    /// Which volume of files that hold several, such as a NIfTI series over time; counted from 0
    #[arg(long, value_name = "N")]
    pub(crate) volume: Option<usize>,
    /// Try again what failed before, which is otherwise remembered
    #[arg(long)]
    pub(crate) retry_failed: bool,
    /// GiB that the decoded values of one picture or volume may take (default: 1 for a picture, 4 for a volume)
    #[arg(long, value_name = "N")]
    pub(crate) max_gib: Option<u32>,
    /// Also keep the patch tokens of the final block (large)
    #[arg(long)]
    pub(crate) patches: bool,
    /// Items per shard file: what a kill can cost, and what is in memory at once (default: 256, with
    /// --patches 32)
    #[arg(long, value_name = "N")]
    pub(crate) shard_size: Option<usize>,
    /// What the set of cases is called in the store (default: the folder they lie in)
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// This process's part of the work, such as 3/16 (1-based)
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<String>,
    #[command(flatten)]
    pub(crate) names: PseudonymArgs,
    /// A file that cannot be read ends the run instead of being left out and listed
    #[arg(long)]
    pub(crate) strict_data: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `dinorad predict` takes.
#[derive(Debug, ClapArgs)]
pub(crate) struct PredictArgs {
    /// Folder of the run whose model answers
    #[arg(long, value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Images, volumes, DICOM folders, or folders of any of these
    #[arg(value_name = "INPUT", required_unless_present = "part")]
    pub(crate) inputs: Vec<PathBuf>,
    /// Cases of the run's own data set in place of files, with their truths: train, val or test
    #[arg(long, value_name = "PART", conflicts_with = "inputs", value_parser = ["train", "val", "test"])]
    pub(crate) part: Option<String>,
    /// The table to write: CSV, or JSON where its name ends so (default: CSV on stdout)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// JSON with names of classes, on stdout or in --out
    #[arg(long)]
    pub(crate) json: bool,
    /// Folder of the feature store to find and keep features in (default: none is kept)
    #[arg(long, value_name = "DIR")]
    pub(crate) features: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) hardware: HardwareArgs,
    #[command(flatten)]
    pub(crate) names: PseudonymArgs,
}

/// What `dinorad run` takes.
#[derive(Debug, ClapArgs)]
pub(crate) struct RunArgs {
    /// A file of experiments, or the config.toml of a run
    #[arg(value_name = "FILE.toml")]
    pub(crate) file: PathBuf,
    /// Folder of the run; of several experiments, the folder that their runs lie in
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Another value for a key of all experiments, such as method.k=[1,5]; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) names: PseudonymArgs,
    /// Only say what would run, and what it would cost
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Results that lie in the folder give way
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Heading of the report (default: data and encoder, or how many runs it shows)
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    /// Keep models for `dinorad predict` also where they are the training features themselves (kNN, ML-kNN)
    #[arg(long)]
    pub(crate) keep_model: bool,
    /// Folder of the feature store, shared by runs (default: features in the current folder)
    #[arg(long, value_name = "DIR")]
    pub(crate) features: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) hardware: HardwareArgs,
    /// Print what came out as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the columns of a table of files (csv) are called, where not by their own names.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ColumnArgs {
    /// Column of files in a table (csv), where it is not called path
    #[arg(long, value_name = "NAME", help_heading = "Columns of a table")]
    pub(crate) path_column: Option<String>,
    /// Column of classes, where it is not called label
    #[arg(long, value_name = "NAME", help_heading = "Columns of a table")]
    pub(crate) label_column: Option<String>,
    /// Column of masks, where it is not called mask
    #[arg(long, value_name = "NAME", help_heading = "Columns of a table")]
    pub(crate) mask_column: Option<String>,
    /// Column of parts, where it is not called split
    #[arg(long, value_name = "NAME", help_heading = "Columns of a table")]
    pub(crate) split_column: Option<String>,
    /// Column of patients, where it is not called patient
    #[arg(long, value_name = "NAME", help_heading = "Columns of a table")]
    pub(crate) patient_column: Option<String>,
}

/// What every way of judging features takes.
#[derive(Debug, ClapArgs)]
pub(crate) struct JudgeArgs {
    /// Name of the data set or of its layout (see `dinorad datasets`)
    #[arg(long, value_name = "NAME", requires = "root", help_heading = "Data")]
    pub(crate) dataset: Option<String>,
    /// The data set's file or folder
    #[arg(long, value_name = "FILE|DIR", requires = "dataset", help_heading = "Data")]
    pub(crate) root: Option<PathBuf>,
    /// The data set whose train and validation splits are used, in place of --dataset and --root
    #[arg(long, value_name = "NAME:root=PATH", help_heading = "Data")]
    pub(crate) train: Option<String>,
    /// Another data set whose test split is judged; the labels that both have, by name, count
    #[arg(long, value_name = "NAME:root=PATH", help_heading = "Data")]
    pub(crate) test: Option<String>,
    /// Let names of classes of the two data sets agree without case, blanks and punctuation
    #[arg(long, requires = "test", help_heading = "Data")]
    pub(crate) fold_labels: bool,
    /// Features that are there already, in place of --backbone: npy, Parquet or CSV of whatever program, the folder
    /// of an export, or a feature store; cases are found by id, rows without ids by the lines of --labels
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "backbone", help_heading = "Data")]
    pub(crate) embeddings: Option<PathBuf>,
    /// Table with the labels of --embeddings, in place of --dataset and --root: id,label[,split][,patient]
    #[arg(long, value_name = "CSV", requires = "embeddings", conflicts_with_all = ["dataset", "root", "train"], help_heading = "Data")]
    pub(crate) labels: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) columns: ColumnArgs,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// Side in pixels of the square that the encoder sees; a multiple of the patch size (default:
    /// what the encoder is usually given, 224 for most)
    #[arg(long, value_name = "N", help_heading = "Preparation")]
    pub(crate) image_size: Option<usize>,
    /// Side in pixels that images are resized to before the middle is cut out (default: the image
    /// size; under the paper's protocol 256/224 of it for kNN and ML-kNN)
    #[arg(long, value_name = "N", help_heading = "Preparation")]
    pub(crate) resize: Option<usize>,
    /// Scale of the values: auto (CT in HU from -1024 to 600, other scans by robust limits, 8 bits as they
    /// are), none, robust, file (the file's window), a CT window such as lung, or CENTER/WIDTH (default:
    /// auto under strict, none under paper)
    #[arg(long, value_name = "SCALE", help_heading = "Preparation")]
    pub(crate) intensity: Option<String>,
    /// What becomes of X-rays whose low values are bright (MONOCHROME1): turned over, as viewers do, or left
    /// (default: inverted under strict, as-stored under paper)
    #[arg(long, value_name = "inverted|as-stored", help_heading = "Preparation")]
    pub(crate) monochrome1: Option<String>,
    /// Of volumes every how many slices one is encoded, from the middle of the first such group; 1 for all
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Preparation")]
    pub(crate) slice_step: usize,
    /// How the slices of a scan become one vector: mean, max, top-k (or top-8 and so on), attention
    #[arg(long, value_name = "HOW", default_value = "mean", help_heading = "Preparation")]
    pub(crate) aggregate: String,
    /// Passes over the training scans that the attention is learned in (default: 50)
    #[arg(long, value_name = "N", help_heading = "Preparation")]
    pub(crate) attention_epochs: Option<usize>,
    /// paper: the study's method; strict: what we recommend
    #[arg(long, value_name = "paper|strict", default_value = "strict", help_heading = "Protocol")]
    pub(crate) protocol: String,
    /// On what the setting that validation chose is trained before it meets the test split (default:
    /// train under strict, train-val under paper)
    #[arg(long, value_name = "train|train-val", help_heading = "Protocol")]
    pub(crate) refit: Option<String>,
    /// Folder of the run
    #[arg(short, long, value_name = "DIR", help_heading = "Results")]
    pub(crate) out: PathBuf,
    /// Heading of the report (default: data and encoder)
    #[arg(long, value_name = "TEXT", help_heading = "Results")]
    pub(crate) title: Option<String>,
    /// Print what came out as JSON
    #[arg(long, help_heading = "Results")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) names: PseudonymArgs,
    /// Results of another experiment that lie in the folder give way
    #[arg(long, help_heading = "Results")]
    pub(crate) overwrite: bool,
    /// Keep the model for `dinorad predict` also where it is the training features themselves (kNN, ML-kNN)
    #[arg(long, help_heading = "Results")]
    pub(crate) keep_model: bool,
    /// Folder of the feature store, shared by runs (default: features in the current folder)
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub(crate) features: Option<PathBuf>,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 0, help_heading = "Protocol")]
    pub(crate) seed: u64,
    /// Bootstrap resamples behind every interval
    #[arg(
        long = "resamples",
        visible_alias = "bootstrap",
        alias = "draws",
        value_name = "N",
        default_value_t = 1000,
        help_heading = "Protocol"
    )]
    pub(crate) bootstrap: usize,
    /// Also train on so many cases alone (counted as --shot-rule says), and draw the curve
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', help_heading = "Further looks")]
    pub(crate) shots: Vec<usize>,
    /// Also train on these shares of the training cases, and draw the curve
    #[arg(long, value_name = "F,F,…", value_delimiter = ',', help_heading = "Further looks")]
    pub(crate) fraction: Vec<f64>,
    /// Repeats of every --shots and --fraction, each drawn anew by seed
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Further looks")]
    pub(crate) tries: usize,
    /// How shots are chosen and counted: cases of every class by seed, patients of every class, or cases
    /// in all (default: per-class; under paper the study's rule: patients for NIH, else evenly-spaced)
    #[arg(long, value_name = "per-class|patients|evenly-spaced", help_heading = "Further looks")]
    pub(crate) shot_rule: Option<String>,
    /// Also judge the test split under graded shifts of its images: noise, blur, contrast, resolution
    #[arg(long, value_name = "SHIFT,…", value_delimiter = ',', help_heading = "Further looks")]
    pub(crate) shift: Vec<String>,
    /// Leave out the controls: the same head on shuffled labels, and on an untrained encoder of the
    /// same shape
    #[arg(long, help_heading = "Further looks")]
    pub(crate) no_controls: bool,
    /// Seeds of the shuffled labels (default: 3; 1 with --augment)
    #[arg(long, value_name = "N", help_heading = "Further looks")]
    pub(crate) control_seeds: Option<usize>,
    /// A table of `dinorad splits` in place of the data set's own parts
    #[arg(long, value_name = "CSV", help_heading = "Data")]
    pub(crate) splits: Option<PathBuf>,
    /// Cut all cases into so many folds by patient and class, and judge each once: mean, deviation, interval
    #[arg(long, value_name = "K", conflicts_with_all = ["splits", "test", "train"], help_heading = "Protocol")]
    pub(crate) folds: Option<usize>,
    /// Cut them anew so often
    #[arg(long, value_name = "N", default_value_t = 1, requires = "folds", help_heading = "Protocol")]
    pub(crate) repeats: usize,
    /// What CheXpert's uncertain findings (-1) count as: extra-class, zeros, ones, ignore
    #[arg(long, value_name = "RULE", default_value = "extra-class", help_heading = "Data")]
    pub(crate) uncertain: String,
    /// A case that cannot be read ends the run instead of being left out and listed
    #[arg(long, help_heading = "Data")]
    pub(crate) strict_data: bool,
}

/// Which tokens a head sees that sees one choice of them.
#[derive(Debug, ClapArgs)]
pub(crate) struct TokenArgs {
    /// Class tokens of so many last blocks
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Preparation")]
    pub(crate) blocks: usize,
    /// Also the mean patch token of the last block
    #[arg(long, help_heading = "Preparation")]
    pub(crate) avgpool: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EvalKnnArgs {
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    #[command(flatten)]
    pub(crate) tokens: TokenArgs,
    /// Numbers of neighbours, one run for all (default: 5,20,50,100,200, as far as there are training
    /// cases)
    #[arg(long, value_name = "K,K,…", value_delimiter = ',', help_heading = "Method")]
    pub(crate) k: Vec<usize>,
    /// Softmax temperature of the vote
    #[arg(long, value_name = "T", default_value_t = 0.07, help_heading = "Method")]
    pub(crate) temperature: f64,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EvalMlknnArgs {
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    #[command(flatten)]
    pub(crate) tokens: TokenArgs,
    /// Numbers of neighbours, one run for all (default: 5,20,50,100,200, as far as there are training
    /// cases)
    #[arg(long, value_name = "K,K,…", value_delimiter = ',', help_heading = "Method")]
    pub(crate) k: Vec<usize>,
    /// Smoothings, one run for all
    #[arg(long, value_name = "S,S,…", value_delimiter = ',', default_value = "1", help_heading = "Method")]
    pub(crate) smoothing: Vec<f64>,
    /// Whether a training case counts among its own neighbours (default: as the study under paper,
    /// not under strict)
    #[arg(long, value_name = "with-itself|without-itself", help_heading = "Method")]
    pub(crate) neighbours: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EvalLogregArgs {
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    #[command(flatten)]
    pub(crate) tokens: TokenArgs,
    /// Values of C, the inverse regularisation (default: the study's 45, from 1e-6 to 1e5)
    #[arg(long = "c", value_name = "C,C,…", value_delimiter = ',', help_heading = "Method")]
    pub(crate) c: Vec<f64>,
    /// Most iterations for each C
    #[arg(long, value_name = "N", default_value_t = 1000, help_heading = "Method")]
    pub(crate) max_iterations: usize,
    /// Largest entry of the gradient of a solution
    #[arg(long, value_name = "G", default_value_t = 1e-12, help_heading = "Method")]
    pub(crate) tolerance: f64,
}

/// Which of the grid's points see the mean patch token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Avgpool {
    Both,
    With,
    Without,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EvalLinearArgs {
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    /// Learning rates, one run for all
    #[arg(
        long,
        visible_alias = "learning-rates",
        value_name = "LR,LR,…",
        value_delimiter = ',',
        default_value = "0.001,0.005,0.01,0.05",
        help_heading = "Method"
    )]
    pub(crate) lr: Vec<f64>,
    /// Numbers of last blocks whose class tokens are seen, one run for all
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_value = "1,4", help_heading = "Method")]
    pub(crate) blocks: Vec<usize>,
    /// Whether the mean patch token is seen too
    #[arg(long, value_enum, default_value = "both", help_heading = "Method")]
    pub(crate) avgpool: Avgpool,
    /// Passes over the training cases
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = "Method")]
    pub(crate) epochs: usize,
    /// Steps, in place of epochs
    #[arg(long, value_name = "N", conflicts_with = "epochs", help_heading = "Method")]
    pub(crate) iterations: Option<usize>,
    /// Cases per step
    #[arg(long, value_name = "N", default_value_t = 128, help_heading = "Method")]
    pub(crate) batch_size: usize,
    /// Share of the last step that is kept
    #[arg(long, value_name = "M", default_value_t = 0.9, help_heading = "Method")]
    pub(crate) momentum: f64,
    /// How the losses of several findings become one number (default: sum over findings under paper,
    /// mean under strict)
    #[arg(long, value_name = "sum|mean", help_heading = "Method")]
    pub(crate) multilabel_loss: Option<String>,
    /// Encode a new random crop and flip of every training image in every epoch
    #[arg(long, help_heading = "Method")]
    pub(crate) augment: bool,
    /// Start from given weights and see given batches: an npz or safetensors file with `weight`
    /// (logits, width), `bias` (logits) and, if wanted, `batches` (steps, batch), rows of the training
    /// split
    #[arg(long, value_name = "FILE", help_heading = "Method")]
    pub(crate) init: Option<PathBuf>,
}

/// What the parts of an encoder that train are set to.
#[derive(Debug, ClapArgs)]
pub(crate) struct TunedArgs {
    /// Blocks that last-blocks trains
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Training")]
    pub(crate) last_blocks: usize,
    /// Rank of the adapters
    #[arg(long, value_name = "R", default_value_t = 8, help_heading = "LoRA")]
    pub(crate) rank: usize,
    /// The adapters' update counts alpha / rank
    #[arg(long, value_name = "A", default_value_t = 16.0, help_heading = "LoRA")]
    pub(crate) alpha: f64,
    /// Maps that get an adapter: q, k, v, qkv, proj, fc1, fc2, w12, w3, all-linear
    #[arg(long, value_name = "MAP,MAP,…", value_delimiter = ',', default_value = "q,v", help_heading = "LoRA")]
    pub(crate) targets: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct FinetuneArgs {
    /// What trains beside the head: full, lora, bitfit, norm, last-blocks, frozen, or several joined by +
    /// (lora+bitfit); lora-attention is LoRA with the slices of a scan pooled by learned attention
    #[arg(long, value_name = "WHAT", default_value = "lora", help_heading = "Training")]
    pub(crate) method: String,
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    #[command(flatten)]
    pub(crate) tokens: TokenArgs,
    /// Learning rates of head, pooling and adapters; of several the one that validation prefers
    #[arg(long, value_name = "LR,LR,…", value_delimiter = ',', default_value = "0.001", help_heading = "Training")]
    pub(crate) lr: Vec<f64>,
    /// Learning rate of what else trains in the encoder (default: --lr for biases and norms, a twentieth
    /// of it for whole blocks)
    #[arg(long, value_name = "LR", help_heading = "Training")]
    pub(crate) encoder_lr: Option<f64>,
    /// Passes over the training cases (default: 10)
    #[arg(long, value_name = "N", conflicts_with = "steps", help_heading = "Training")]
    pub(crate) epochs: Option<usize>,
    /// Steps, in place of passes
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub(crate) steps: Option<usize>,
    /// Cases whose loss is computed at once
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Training")]
    pub(crate) batch_size: usize,
    /// Such batches for one step
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Training")]
    pub(crate) accumulate: usize,
    /// Share of the steps in which the learning rates rise
    #[arg(long, value_name = "F", default_value_t = 0.1, help_heading = "Training")]
    pub(crate) warm_up: f64,
    /// What the learning rates do then
    #[arg(long, value_name = "cosine|constant", default_value = "cosine", value_parser = ["cosine", "constant"], help_heading = "Training")]
    pub(crate) decay: String,
    /// How gradients become steps
    #[arg(long, value_name = "adamw|sgd", default_value = "adamw", value_parser = ["adamw", "sgd"], help_heading = "Training")]
    pub(crate) algorithm: String,
    /// Weight decay of matrices
    #[arg(long, value_name = "W", default_value_t = 0.05, help_heading = "Training")]
    pub(crate) weight_decay: f64,
    /// Longest gradient; 0 for any
    #[arg(long, value_name = "L", default_value_t = 1.0, help_heading = "Training")]
    pub(crate) clip: f64,
    /// Share of an average of weights that is kept at every step; 0 for none
    #[arg(long, value_name = "F", default_value_t = 0.0, help_heading = "Training")]
    pub(crate) ema: f64,
    /// Factor of the learning rate for every block that lies behind
    #[arg(long, value_name = "F", default_value_t = 1.0, help_heading = "Training")]
    pub(crate) layer_decay: f64,
    /// Probability that residual branches of the last block are dropped, falling to 0 at the first
    #[arg(long, value_name = "P", default_value_t = 0.0, help_heading = "Training")]
    pub(crate) drop_path: f64,
    /// Activation checkpointing: keep the inputs of blocks alone and compute the rest again for the
    /// backward pass: less memory, more time
    #[arg(long, help_heading = "Training")]
    pub(crate) recompute: bool,
    /// Train on a new random crop and flip of every image in every pass
    #[arg(long, help_heading = "Training")]
    pub(crate) augment: bool,
    /// Slices of a scan that a step sees at most, drawn anew in every pass
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub(crate) max_slices: Option<usize>,
    #[command(flatten)]
    pub(crate) tuned: TunedArgs,
    /// Dropout before the adapters
    #[arg(long, value_name = "P", default_value_t = 0.0, help_heading = "LoRA")]
    pub(crate) lora_dropout: f64,
    /// Biases that train beside the adapters
    #[arg(long, value_name = "none|lora_only|all", default_value = "none", value_parser = ["none", "lora_only", "all"], help_heading = "LoRA")]
    pub(crate) lora_bias: String,
    /// Let the update count alpha / √rank (rsLoRA)
    #[arg(long, help_heading = "LoRA")]
    pub(crate) rslora: bool,
    /// The major version of transformers whose names the folder `adapter` of the run has
    #[arg(long, value_name = "4|5", default_value = "5", value_parser = ["4", "5"], help_heading = "LoRA")]
    pub(crate) peft_names: String,
    /// Steps between validations (default: a tenth of all)
    #[arg(long, value_name = "N", help_heading = "Watching")]
    pub(crate) validate_every: Option<usize>,
    /// Validations without a better score after which training ends
    #[arg(long, value_name = "N", help_heading = "Watching")]
    pub(crate) patience: Option<usize>,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", default_value_t = 50, help_heading = "Watching")]
    pub(crate) checkpoint_every: usize,
    /// First make one step: list every tensor as trainable or frozen, and stop if a trainable one got no
    /// gradient or a frozen one moved
    #[arg(long, help_heading = "Watching")]
    pub(crate) check: bool,
    /// Begin even if the memory does not seem to be enough
    #[arg(long, help_heading = "Watching")]
    pub(crate) no_memory_check: bool,
    /// Also write the tuned encoder as a Hugging Face folder, adapters merged into its weights
    #[arg(long, help_heading = "Watching")]
    pub(crate) save_encoder: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ReportArgs {
    /// Folders of runs, or folders with runs somewhere below them
    #[arg(required = true, value_name = "RUN|DIR")]
    pub(crate) runs: Vec<PathBuf>,
    /// The page to write
    #[arg(short, long, value_name = "HTML", default_value = "report.html")]
    pub(crate) out: PathBuf,
    /// Its heading (default: data and encoder, or how many runs it shows)
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    #[command(flatten)]
    pub(crate) names: PseudonymArgs,
    /// Print what is on the page as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CompareArgs {
    /// Folder of the first run
    #[arg(value_name = "A")]
    pub(crate) a: PathBuf,
    /// Folder of the second run
    #[arg(value_name = "B")]
    pub(crate) b: PathBuf,
    /// Bootstrap resamples and permutations
    #[arg(long = "resamples", alias = "draws", value_name = "N", default_value_t = 2000)]
    pub(crate) draws: usize,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Machine-readable
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ExportArgs {
    /// The store's folder: the one with manifest.json, or a folder that holds one store
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// parquet: lists of numbers; npy: a folder of arrays with ids.json; csv: a column for every number
    #[arg(long, value_name = "parquet|npy|csv", default_value = "parquet")]
    pub(crate) format: String,
    /// The file to write; a folder for npy and with --per-shard
    #[arg(short, long, value_name = "PATH")]
    pub(crate) out: PathBuf,
    /// Which features (default: all vectors; a sequence such as `slices` by itself)
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) features: Vec<String>,
    /// The data set whose labels are written beside the features, matched by id
    #[arg(long, value_name = "NAME:root=PATH")]
    pub(crate) labels: Option<String>,
    /// One file for every shard of the store
    #[arg(long)]
    pub(crate) per_shard: bool,
    #[command(flatten)]
    pub(crate) names: PseudonymArgs,
    /// The cases of one set (default: those of all sets, each once)
    #[arg(long, value_name = "NAME")]
    pub(crate) set: Option<String>,
    /// Print what came out as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// The stores in a folder: encoder, settings, sets, cases, size, date
    #[command(after_help = "Example:\n  dinorad store list features")]
    List(StoreListArgs),
    /// Remove what nothing needs: torn files, damaged shards, entries that richer ones replace
    ///
    /// Tells what would go; --yes removes it.
    #[command(after_help = "Example:\n  dinorad store prune features")]
    Prune(StorePruneArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct StoreListArgs {
    /// A folder of feature stores, or one store
    #[arg(value_name = "DIR", default_value = "features")]
    pub(crate) folder: PathBuf,
    /// Print the list as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct StorePruneArgs {
    /// A folder of feature stores, or one store
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Also remove all features of this encoder: its name, or the first digits of its digest
    #[arg(long, value_name = "ID")]
    pub(crate) encoder: Option<String>,
    /// Also remove stores of an older format
    #[arg(long)]
    pub(crate) older_format: bool,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print what came out as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PcaArgs {
    /// Images, volumes or DICOM folders; one basis for all of them
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// The picture to write
    #[arg(short, long, value_name = "PNG", default_value = "pca.png")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// Side in pixels that images are resized to; a multiple of the patch size
    #[arg(long, value_name = "N", default_value_t = 448)]
    pub(crate) image_size: usize,
    /// Scale of the values: auto, none, robust, file, a CT window such as lung, or CENTER/WIDTH
    #[arg(long, value_name = "SCALE", default_value = "auto")]
    pub(crate) intensity: String,
    /// Slices shown of each volume, evenly spaced
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) slices: usize,
    /// Print what came out as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct InspectArgs {
    /// Files or folders
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Scale of the values whose effect is told: auto, none, robust, file, a CT window such as lung, or
    /// CENTER/WIDTH
    #[arg(long, value_name = "SCALE", default_value = "auto")]
    pub(crate) intensity: String,
    /// Machine-readable
    #[arg(long)]
    pub(crate) json: bool,
    /// Show personal data too (names, ids, dates, UIDs)
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
    #[command(flatten)]
    pub(crate) columns: ColumnArgs,
    /// Machine-readable
    #[arg(long)]
    pub(crate) json: bool,
    /// Also a picture of samples of every class with their labels
    #[arg(long, value_name = "PNG", requires = "dataset")]
    pub(crate) sheet: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DatasetsArgs {
    /// Machine-readable
    #[arg(long)]
    pub(crate) json: bool,
}

/// How the few shots of `--few-shot` are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DrawRule {
    /// As the study did: evenly spaced cases; for NIH so many patients for every finding
    Study,
    /// So many cases of every class, drawn by seed
    Balanced,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SplitsArgs {
    /// Name of the data set's layout (see `dinorad datasets`)
    #[arg(value_name = "NAME")]
    pub(crate) dataset: String,
    /// The data set's file or folder
    #[arg(value_name = "ROOT")]
    pub(crate) root: PathBuf,
    /// strict: by patient and class where the publisher did not divide; paper: the study's arithmetic
    #[arg(long, value_name = "paper|strict", default_value = "strict")]
    pub(crate) protocol: String,
    /// Cut everything anew by patient and class in these shares, whatever parts there are
    #[arg(long, value_name = "TRAIN,VAL,TEST", value_delimiter = ',')]
    pub(crate) shares: Option<Vec<f64>>,
    #[command(flatten)]
    pub(crate) columns: ColumnArgs,
    /// Seed of what is drawn
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Keep only a few training cases
    #[arg(long, value_name = "N")]
    pub(crate) few_shot: Option<usize>,
    /// Rule of --few-shot
    #[arg(long, value_enum, default_value = "study", requires = "few_shot")]
    pub(crate) draw: DrawRule,
    /// Keep this many training cases, evenly spaced
    #[arg(long, value_name = "N", conflicts_with = "few_shot")]
    pub(crate) sample: Option<usize>,
    /// Write K tables FILE-fold1.csv … for cross-validation; the test part stays
    #[arg(long, value_name = "K", requires = "out")]
    pub(crate) folds: Option<usize>,
    /// The table to write (default: stdout)
    #[arg(short, long, value_name = "CSV")]
    pub(crate) out: Option<PathBuf>,
    /// Print what came out as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
