//! What `dinorad pretrain` and `dinorad distill` take.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// Images without labels.
#[derive(Debug, ClapArgs)]
pub(crate) struct UnlabelledArgs {
    /// Images, volumes, DICOM folders, or folders of any of these
    #[arg(value_name = "PATH", required_unless_present = "dataset", conflicts_with = "dataset")]
    pub(crate) paths: Vec<PathBuf>,
    /// A data set by its name in place of files
    #[arg(long, value_name = "NAME", requires = "root", help_heading = "Images")]
    pub(crate) dataset: Option<String>,
    /// The data set's file or folder
    #[arg(long, value_name = "FILE|DIR", requires = "dataset", help_heading = "Images")]
    pub(crate) root: Option<PathBuf>,
    /// Which part of the data set; never learn from what is to be judged on later
    #[arg(long, value_name = "PART", default_value = "train", value_parser = ["train", "val", "test"], help_heading = "Images")]
    pub(crate) part: String,
    /// What varies between two views beside the crop: ct (window), mr (bias field, gamma), xray (exposure, contrast),
    /// plain (nothing)
    #[arg(long, value_name = "KIND", default_value = "plain", value_parser = ["ct", "mr", "xray", "plain"], help_heading = "Images")]
    pub(crate) modality: String,
    /// The window that CT views vary around: a name such as lung, or CENTER/WIDTH
    #[arg(long, value_name = "WINDOW", default_value = "soft-tissue", help_heading = "Images")]
    pub(crate) window: String,
    /// Mirror half of the views, left for right
    #[arg(long, help_heading = "Images")]
    pub(crate) mirror: bool,
    /// Every N-th slice of a volume
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Images")]
    pub(crate) slice_step: usize,
    /// Pixels of the shorter side that are kept of larger slices
    #[arg(long, value_name = "N", default_value_t = 320, help_heading = "Images")]
    pub(crate) max_side: usize,
}

/// A labelled set that tells now and then how good the features are.
#[derive(Debug, ClapArgs)]
pub(crate) struct KnnArgs {
    /// A labelled data set whose validation part nearest neighbours of its training part judge now and then
    #[arg(long = "judge", value_name = "NAME", requires = "judge_root", help_heading = "Judgement")]
    pub(crate) set: Option<String>,
    /// That data set's file or folder
    #[arg(long = "judge-root", value_name = "FILE|DIR", requires = "set", help_heading = "Judgement")]
    pub(crate) judge_root: Option<PathBuf>,
    /// Steps between judgements (default: a tenth of them)
    #[arg(long = "judge-every", value_name = "N", requires = "set", help_heading = "Judgement")]
    pub(crate) every: Option<usize>,
    /// Cases of each part that are looked at, spread over it
    #[arg(
        long = "judge-cases",
        value_name = "N",
        default_value_t = 1000,
        requires = "set",
        help_heading = "Judgement"
    )]
    pub(crate) cases: usize,
}

/// What both have in common.
#[derive(Debug, ClapArgs)]
pub(crate) struct LearningArgs {
    /// Folder of the training: checkpoint, log, events, and in the end `encoder`
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Steps
    #[arg(long, value_name = "N", default_value_t = 2000, help_heading = "Training")]
    pub(crate) steps: usize,
    /// Images (or views) of a step
    #[arg(long, value_name = "N", default_value_t = 32, help_heading = "Training")]
    pub(crate) batch_size: usize,
    /// Largest learning rate (default: 0.004 · √(batch / 1024), of distill 0.001)
    #[arg(long, value_name = "LR", help_heading = "Training")]
    pub(crate) lr: Option<f64>,
    /// Factor of the learning rate for every block that lies behind (default: 0.9, of distill 1)
    #[arg(long, value_name = "F", help_heading = "Training")]
    pub(crate) layer_decay: Option<f64>,
    /// Probability that residual branches of the last block are dropped
    #[arg(long, value_name = "P", default_value_t = 0.0, help_heading = "Training")]
    pub(crate) drop_path: f64,
    /// Keep a block's input alone and compute the rest again: less memory, more time
    #[arg(long, help_heading = "Training")]
    pub(crate) recompute: bool,
    /// Seed of all that is drawn
    #[arg(long, default_value_t = 0, help_heading = "Training")]
    pub(crate) seed: u64,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = "Training")]
    pub(crate) checkpoint_every: usize,
    /// Threads that make views ahead of time
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Training")]
    pub(crate) workers: usize,
    /// Say how long it will take and how much memory, and stop
    #[arg(long)]
    pub(crate) plan: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PretrainArgs {
    #[command(flatten)]
    pub(crate) images: UnlabelledArgs,
    /// Where to start: `untrained[:name][?seed=N]`, a name of `dinorad models`, a Hub id, or a path; DINOv2 alone
    #[arg(long, value_name = "ID|DIR|FILE", default_value = "untrained:tiny", help_heading = "Encoder")]
    pub(crate) backbone: String,
    /// Register tokens of an untrained encoder
    #[arg(long, value_name = "N", help_heading = "Encoder")]
    pub(crate) registers: Option<usize>,
    #[command(flatten)]
    pub(crate) learning: LearningArgs,
    /// Side in pixels of large crops (default: what the encoder is usually given)
    #[arg(long, value_name = "N", help_heading = "Views")]
    pub(crate) image_size: Option<usize>,
    /// Side in pixels of small crops
    #[arg(long, value_name = "N", default_value_t = 98, help_heading = "Views")]
    pub(crate) local_size: usize,
    /// Small crops of an image
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = "Views")]
    pub(crate) local_crops: usize,
    /// Share of the steps from which on crops have their full size, half of it before: 0.75 saves much time
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = "Views")]
    pub(crate) full_size_from: f64,
    /// Prototypes of the head
    #[arg(long, value_name = "N", default_value_t = 4096, help_heading = "Objective")]
    pub(crate) prototypes: usize,
    /// Width inside the head
    #[arg(long, value_name = "N", default_value_t = 1024, help_heading = "Objective")]
    pub(crate) hidden: usize,
    /// Give masked patches a head of their own
    #[arg(long, help_heading = "Objective")]
    pub(crate) patch_head: bool,
    /// What keeps the teacher from giving all images the same prototype; off shows what the monitors are for
    #[arg(long, value_name = "HOW", default_value = "sinkhorn-knopp", value_parser = ["sinkhorn-knopp", "running", "off"], help_heading = "Objective")]
    pub(crate) centring: String,
    /// Share of the teacher that stays at a step, in the beginning; 1 in the end
    #[arg(long, value_name = "M", default_value_t = 0.992, help_heading = "Objective")]
    pub(crate) momentum: f64,
    /// Weight of the spread of class tokens (KoLeo)
    #[arg(long, value_name = "W", default_value_t = 0.1, help_heading = "Objective")]
    pub(crate) koleo: f64,
    /// Weight of masked patches (iBOT)
    #[arg(long, value_name = "W", default_value_t = 1.0, help_heading = "Objective")]
    pub(crate) ibot: f64,
    #[command(flatten)]
    pub(crate) judge: KnnArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DistillArgs {
    #[command(flatten)]
    pub(crate) images: UnlabelledArgs,
    /// Whose tokens are learned: any encoder with patches, as for `--backbone` elsewhere
    #[arg(long, value_name = "ID|DIR|FILE", help_heading = "Encoder")]
    pub(crate) teacher: String,
    /// What learns them: a DINOv2, untrained or not
    #[arg(long, value_name = "ID|DIR|FILE", default_value = "untrained:tiny", help_heading = "Encoder")]
    pub(crate) student: String,
    #[command(flatten)]
    pub(crate) learning: LearningArgs,
    /// Views of an image that the teacher looks at, once
    #[arg(long, value_name = "N", default_value_t = 4, help_heading = "Views")]
    pub(crate) views: usize,
    /// Side of a view in patches
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Views")]
    pub(crate) grid: usize,
    #[command(flatten)]
    pub(crate) judge: KnnArgs,
}
