//! What `dinorad segment` takes.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::{EncoderArgs, HardwareArgs, TunedArgs};
use crate::pseudonyms::PseudonymArgs;

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one in a run")]
pub(crate) enum SegmentCommand {
    /// A decoder on an encoder, or a network from scratch, to the masks of the test part
    ///
    /// A training that was broken off is gone on with when the same is typed again.
    #[command(
        after_help = "Example:\n  dinorad segment train --dataset msd --root organs --model unet --width 8 --steps 20 -o runs/unet"
    )]
    Train(SegmentTrainArgs),
    /// Masks of new scans by the network of a run: NIfTI on the voxels of each scan, pictures, volumes
    ///
    /// Files called NAME_0000, NAME_0001 … in one folder and on one grid are the channels of one case (nnU-Net): the
    /// one that the run learned from is read, and the mask is called NAME.nii.gz. Of files that hold several volumes
    /// (Decathlon) that volume is read.
    #[command(after_help = "Example:\n  dinorad segment predict --run runs/unet scans -o drawn --dicom-seg")]
    Predict(SegmentPredictArgs),
    /// Masks of any origin beside the true ones: Dice, HD95, surface Dice, volumes, by case and class
    ///
    /// Volumes are judged in mm, PNG label pictures (gray, or indices of a palette) in pixels, in a table of their own.
    #[command(after_help = "Example:\n  dinorad segment evaluate --pred masks --truth labels")]
    Evaluate(SegmentEvaluateArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SegmentTrainArgs {
    /// Name of the data set or of its layout; msd reads any folder with a dataset.json (Decathlon, nnU-Net)
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub(crate) dataset: String,
    /// The data set's file or folder
    #[arg(long, value_name = "FILE|DIR", help_heading = "Data")]
    pub(crate) root: PathBuf,
    /// A table of `dinorad splits` in place of the data set's own parts
    #[arg(long, value_name = "CSV", help_heading = "Data")]
    pub(crate) splits: Option<PathBuf>,
    /// Which channel of scans that have several, counted from 0: files _0000, _0001 … (nnU-Net), or volumes of a
    /// file (Decathlon)
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Data")]
    pub(crate) channel: usize,
    /// A case that cannot be read ends the run instead of being left out and listed
    #[arg(long, help_heading = "Data")]
    pub(crate) strict_data: bool,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// What draws the masks on the encoder: linear, hierarchical (the study's), fused (several blocks and the image)
    #[arg(long, value_name = "NAME", default_value = "fused", value_parser = ["linear", "hierarchical", "fused"], help_heading = "Network")]
    pub(crate) decoder: String,
    /// A network from scratch in place of encoder and decoder
    #[arg(long, value_name = "unet|trans-unet", value_parser = ["unet", "trans-unet"], conflicts_with_all = ["backbone", "decoder"], help_heading = "Network")]
    pub(crate) model: Option<String>,
    /// Channels at full size of a network from scratch (default: 24; 64 under paper)
    #[arg(long, value_name = "N", help_heading = "Network")]
    pub(crate) width: Option<usize>,
    /// Side in pixels of the square that the encoder sees (default: what it is usually given), or that slices are
    /// resized to for a network from scratch (default: their own size; 448 under paper)
    #[arg(long, value_name = "N", help_heading = "Network")]
    pub(crate) image_size: Option<usize>,
    /// Masks are drawn on so many pixels a patch, along each side, before they come to the slice's size
    #[arg(long, value_name = "N", default_value_t = 4, help_heading = "Network")]
    pub(crate) detail: usize,
    /// What trains in the encoder: frozen, full, lora, bitfit, norm, last-blocks, or several joined by +
    #[arg(long, value_name = "WHAT", default_value = "frozen", help_heading = "Network")]
    pub(crate) tune: String,
    #[command(flatten)]
    pub(crate) tuned: TunedArgs,
    /// Minutes for search, last training and test together; what is cut for it is said
    #[arg(long, value_name = "M", help_heading = "Training")]
    pub(crate) minutes: Option<f64>,
    /// Learning rates of decoder and adapters; of several the one that validation prefers
    #[arg(long, value_name = "LR,LR,…", value_delimiter = ',', default_value = "0.002", help_heading = "Training")]
    pub(crate) lr: Vec<f64>,
    /// Learning rate of what else trains in the encoder (default: a twentieth of --lr)
    #[arg(long, value_name = "LR", help_heading = "Training")]
    pub(crate) encoder_lr: Option<f64>,
    /// Passes over the training slices (default: 10)
    #[arg(long, value_name = "N", conflicts_with = "steps", help_heading = "Training")]
    pub(crate) epochs: Option<usize>,
    /// Steps, in place of passes
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub(crate) steps: Option<usize>,
    /// Slices whose loss is computed at once
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Training")]
    pub(crate) batch_size: usize,
    /// Such batches for one step
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Training")]
    pub(crate) accumulate: usize,
    /// What is minimised
    #[arg(long, value_name = "LOSS", default_value = "dice-cross-entropy", value_parser = ["cross-entropy", "dice", "dice-cross-entropy"], help_heading = "Training")]
    pub(crate) loss: String,
    /// How much every class counts in the loss, background first (default: all alike)
    #[arg(long, value_name = "W,W,…", value_delimiter = ',', help_heading = "Training")]
    pub(crate) class_weights: Vec<f64>,
    /// Soft Dice of every slice by itself, as under paper, in place of one for all slices of a batch
    #[arg(long, help_heading = "Training")]
    pub(crate) dice_by_slice: bool,
    /// Decoupled weight decay of matrices
    #[arg(long, value_name = "W", default_value_t = 0.01, help_heading = "Training")]
    pub(crate) weight_decay: f64,
    /// Train on slices as they are: neither turned nor stretched, brighter or darker (a frozen encoder always does,
    /// unless --augment is given)
    #[arg(long, conflicts_with = "augment", help_heading = "Training")]
    pub(crate) no_augment: bool,
    /// Move training slices for a frozen encoder too, which then looks at each anew in every pass
    #[arg(long, help_heading = "Training")]
    pub(crate) augment: bool,
    /// Mirror training slices too, left for right
    #[arg(long, help_heading = "Training")]
    pub(crate) mirror: bool,
    /// Along which axes scans are cut: axial, or three, whose answers are averaged
    #[arg(long, value_name = "axial|three", default_value = "axial", value_parser = ["axial", "three"], help_heading = "Masks")]
    pub(crate) planes: String,
    /// Let the mirrored slice vote too
    #[arg(long, help_heading = "Masks")]
    pub(crate) mirrored_votes: bool,
    /// Of every class keep the largest piece alone
    #[arg(long, help_heading = "Masks")]
    pub(crate) largest_component: bool,
    /// Close holes in a class
    #[arg(long, help_heading = "Masks")]
    pub(crate) fill_holes: bool,
    /// Scale of the values, as in `dinorad eval`
    #[arg(long, value_name = "SCALE", help_heading = "Preparation")]
    pub(crate) intensity: Option<String>,
    /// paper: the study's method; strict: what we recommend
    #[arg(long, value_name = "paper|strict", default_value = "strict", help_heading = "Protocol")]
    pub(crate) protocol: String,
    /// On what the setting that was chosen is trained before it meets the test split
    #[arg(long, value_name = "train|train-val", default_value = "train-val", help_heading = "Protocol")]
    pub(crate) refit: String,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 0, help_heading = "Protocol")]
    pub(crate) seed: u64,
    /// Bootstrap resamples behind every interval
    #[arg(long = "resamples", value_name = "N", default_value_t = 1000, help_heading = "Protocol")]
    pub(crate) bootstrap: usize,
    /// Train on so many volumes alone too, of those that the run learns from, several times: a curve with its band
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', help_heading = "Few labels and controls")]
    pub(crate) volumes: Vec<usize>,
    /// Train on so many annotated patches too, each of another volume
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', help_heading = "Few labels and controls")]
    pub(crate) patches: Vec<usize>,
    /// Voxels of a patch along slices, rows and columns
    #[arg(long, value_name = "D,H,W", value_delimiter = ',', default_values_t = [20, 20, 20], help_heading = "Few labels and controls")]
    pub(crate) patch_size: Vec<usize>,
    /// Draws of every number of volumes or patches
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Few labels and controls")]
    pub(crate) tries: usize,
    /// Steps of every such training (default: as many as the run makes); --minutes does not bound them
    #[arg(long, value_name = "N", help_heading = "Few labels and controls")]
    pub(crate) few_steps: Option<usize>,
    /// Train once more on an untrained encoder, and once where every scan has the mask of another; each costs as
    /// much as the run
    #[arg(long, help_heading = "Few labels and controls")]
    pub(crate) controls: bool,
    /// Steps between validations while settings are searched (default: a fifth of all)
    #[arg(long, value_name = "N", help_heading = "Watching")]
    pub(crate) validate_every: Option<usize>,
    /// Validations without a better score after which a training of the search ends
    #[arg(long, value_name = "N", help_heading = "Watching")]
    pub(crate) patience: Option<usize>,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", default_value_t = 200, help_heading = "Watching")]
    pub(crate) checkpoint_every: usize,
    /// Folder of the run; the masks of the test part lie in `masks` in it
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
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SegmentPredictArgs {
    /// Folder of the run whose network draws
    #[arg(long, value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// NIfTI files, DICOM folders, images, or folders of any of these
    #[arg(value_name = "INPUT", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    /// Folder for masks, pictures and volumes.csv; what is there of the same run is not drawn again
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Also write NAME.dcm for DICOM series: a segmentation object that an archive files with the series. It alone of
    /// all that is written carries names, numbers and dates: the series' patient and study, as the standard asks
    #[arg(long, conflicts_with = "pseudonyms")]
    pub(crate) dicom_seg: bool,
    #[command(flatten)]
    pub(crate) names: PseudonymArgs,
    #[command(flatten)]
    pub(crate) hardware: HardwareArgs,
    /// Print what came out as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SegmentEvaluateArgs {
    /// Folder of predicted masks (NIfTI, NRRD, MetaImage, MGH, PNG)
    #[arg(long, value_name = "DIR")]
    pub(crate) pred: PathBuf,
    /// Folder of true masks with the same names
    #[arg(long, value_name = "DIR")]
    pub(crate) truth: PathBuf,
    /// Names of the foreground classes, in order of their labels 1, 2, … (default: those of a dataset.json beside
    /// the truth, else class 1, class 2, …)
    #[arg(long, value_name = "NAME,NAME,…", value_delimiter = ',')]
    pub(crate) classes: Vec<String>,
    /// Tolerance of the surface Dice in mm (of PNG masks: in pixels)
    #[arg(long, value_name = "MM", default_value_t = 2.0)]
    pub(crate) tolerance: f64,
    /// Also count lesions (connected pieces, 26 neighbours) that were found, missed and made up, class by class
    #[arg(long)]
    pub(crate) lesions: bool,
    /// Share of a lesion that must be covered for it to be found (default: a single voxel, as ISLES 2022 counts)
    #[arg(long, value_name = "SHARE", requires = "lesions", default_value_t = 0.0)]
    pub(crate) lesion_overlap: f64,
    /// Bootstrap resamples behind every interval
    #[arg(long = "resamples", value_name = "N", default_value_t = 1000)]
    pub(crate) bootstrap: usize,
    /// The table of every case and class to write
    #[arg(short, long, value_name = "CSV")]
    pub(crate) out: Option<PathBuf>,
    /// Print the means as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
