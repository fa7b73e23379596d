//! What trains inside an encoder: all of it, some of its parameters, or adapters put beside them.

mod check;
mod lora;
mod peft;
mod scope;
mod site;
mod trainable;

pub use self::{
    check::{Checked, check_step},
    lora::{Biases, Lora, LoraTargets, add_lora},
    peft::{PeftAdapter, PeftNames, in_transformers, load_peft, save_peft},
    scope::Scope,
    trainable::{TrainableBackbone, load_trainable, load_trainable_with},
};
