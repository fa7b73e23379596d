//! Distillation: a student learns the class and patch tokens of any encoder.
//!
//! The teacher looks at a fixed number of seeded views of every image once; what it says is kept on disk in half
//! precision ([`TeacherTokens`]), and the student learns from that for as long as it likes.

mod feed;
mod lesson;
mod settings;
mod student;
mod tokens;

pub use feed::{DistillBatch, DistillFeed};
pub use lesson::distill;
pub use settings::{DistillSettings, TokenWeights};
pub use student::DistillStudent;
pub use tokens::TeacherTokens;
