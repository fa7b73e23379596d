//! Writes an adapter folder for an encoder, and what the adapted encoder makes of random pixels:
//!
//!     cargo run --release --example peft_folder -- ENCODER OUT 4|5 [TARGETS] [none|lora_only|all] [rslora]
//!
//! `OUT/adapter` is what PEFT loads, `OUT/merged` a Hugging Face folder with the adapter added in, and
//! `OUT/expected.safetensors` holds `pixels` and `last_hidden_state`. `tests/reference/peft_folder.py` compares.

use std::{collections::HashMap, path::PathBuf};

use dinorad_backbone::{
    LoadOptions, Request, Source,
    candle::{Device, Tensor},
    tuning::{Biases, Lora, LoraTargets, PeftNames, add_lora, load_trainable, save_peft},
};
use dinorad_nn::init::trunc_normal;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [encoder, out, names, rest @ ..] = given.as_slice() else {
        return Err("name an encoder's folder, a folder to write, and 4 or 5".into());
    };
    let (out, names) = (PathBuf::from(out), names.parse::<PeftNames>()?);
    let word = |i: usize, usual: &'static str| rest.get(i).map_or(usual, String::as_str).to_owned();
    let lora = Lora {
        rank: 4,
        alpha: 6.0,
        targets: LoraTargets(word(0, "q,v").split(',').map(str::to_owned).collect()),
        bias: match word(1, "none").as_str() {
            "all" => Biases::All,
            "lora_only" => Biases::LoraOnly,
            _ => Biases::None,
        },
        rslora: word(2, "") == "rslora",
        rank_pattern: [("blocks.0.mlp.fc1".to_owned(), 2)].into(),
        alpha_pattern: [("attn.qkv".to_owned(), 10.0)].into(),
        ..Lora::default()
    };
    let (mut encoder, _) = load_trainable(&Source::Path(encoder.into()), &LoadOptions::default())?;
    add_lora(&mut *encoder, &lora, 1)?;
    let changed = lora.bias;
    encoder.visit_mut("", &mut |name, tensor| {
        // as after a training: B is not zero any more, and biases that train have moved
        if name.ends_with("lora_B") || (changed == Biases::All && name.ends_with("bias")) {
            let moved = trunc_normal(2, name, tensor.shape().clone(), 0.05, &Device::Cpu)?;
            *tensor = (&*tensor + moved)?;
        }
        Ok(())
    })?;
    let side = encoder.spec().native_size;
    let pixels = trunc_normal(3, "pixels", (2, 3, side, side), 1.0, &Device::Cpu)?;
    let features = encoder.forward(&pixels, &Request::last(1).with_registers())?;
    let last = features.last()?;
    let mut tokens = vec![last.cls.unsqueeze(1)?];
    tokens.extend(last.registers.clone());
    tokens.extend(last.patches.clone());
    let tokens = Tensor::cat(&tokens, 1)?;
    save_peft(&mut *encoder, &out.join("adapter"), &lora, names)?;
    let tensors = HashMap::from([("pixels", pixels), ("last_hidden_state", tokens)]);
    candle::safetensors::save(&tensors, out.join("expected.safetensors"))?;
    encoder.visit_maps("", &mut |_, map| map.merge_adapters())?;
    encoder.as_dinov2().ok_or("no DINOv2")?.save_hugging_face(&out.join("merged"))?;
    println!("{}", out.display());
    Ok(())
}
