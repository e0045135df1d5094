// The fields of each tool's form, as `model_tools/requests.py` takes them: kind, bounds and words.

const FORMATS = [["keep", "As it is"], ["fp16", "fp16 (half the size)"], ["bf16", "bf16"], ["fp32", "fp32"]];
const LORA_FORMATS = FORMATS.slice(1);
const output = { name: "output", kind: "text", label: "Name of the new file", needed: true, max: 150 };
const format = (choices) => ({ name: "dtype", kind: "choice", label: "Number format", choices });
const rank = (more) => ({ name: "rank", kind: "number", label: "Rank", value: 32, min: 1, max: 4096, whole: true, ...more });
const convRank = (hint, more) => ({ name: "conv_rank", kind: "number", label: "Rank of convolutions", value: 0, min: 0, max: 4096, whole: true, hint, ...more });
const is = (name, value) => (values) => values[name] === value;

export const FORMS = {
  merge: {
    label: "Merge checkpoints",
    about: "Weighted sum: A (1 − M) + B M. Add difference: A + (B − C) M.",
    fields: [
      { name: "a", kind: "checkpoints", label: "A", needed: true },
      { name: "b", kind: "checkpoints", label: "B", needed: true },
      { name: "method", kind: "choice", label: "Method", choices: [["weighted", "Weighted sum"], ["difference", "Add difference"]] },
      { name: "c", kind: "checkpoints", label: "C, subtracted from B", needed: true, when: is("method", "difference") },
      { name: "multiplier", kind: "number", label: "M", value: 0.5, min: -2, max: 3, hint: "0 is A, 1 is B; −2 to 3." },
      { name: "blocks", kind: "text", label: "M by block", max: 2000, hint: "Empty for one M everywhere; or BASE=0, IN04=0.3, M00=1; or a number for each block (26 for SD 1.x, 20 for SDXL)." },
      { name: "parts", kind: "choice", label: "What is merged", choices: [["all", "U-Net and text encoder"], ["unet", "U-Net only"], ["text", "Text encoder only"]] },
      { name: "vae", kind: "vaes", label: "VAE", choices: [["a", "A's"], ["b", "B's"], ["merge", "Merged too"]] },
      format(FORMATS),
      output,
    ],
  },
  bake: {
    label: "Bake LoRAs into a checkpoint",
    about: "The checkpoint paints what it paints with these LoRAs in the prompt.",
    fields: [
      { name: "checkpoint", kind: "checkpoints", label: "Checkpoint", needed: true },
      { name: "loras", kind: "loras", label: "LoRAs" },
      format(FORMATS),
      output,
    ],
  },
  extract: {
    label: "Extract a LoRA",
    about: "What must be added to one checkpoint to make it another, as a LoRA.",
    fields: [
      { name: "base", kind: "checkpoints", label: "Base", needed: true },
      { name: "tuned", kind: "checkpoints", label: "Tuned checkpoint", needed: true },
      rank({ hint: "1 to 4096: higher is closer, and larger." }),
      convRank("0 leaves convolutions out."),
      { name: "alpha", kind: "number", label: "Alpha", value: 0, min: 0, max: 4096, hint: "0 is the rank, as most files have it." },
      { name: "clamp", kind: "number", label: "Clamp at quantile", value: 1, min: 0.51, max: 1, hint: "1 does not clamp; kohya's scripts take 0.99." },
      { name: "text", kind: "check", label: "Text encoder too", value: true },
      { name: "rest", kind: "check", label: "Also biases, norms, first and last layers in full", value: false },
      format(LORA_FORMATS),
      output,
    ],
  },
  "merge-loras": {
    label: "Merge LoRAs",
    about: "Several LoRAs as one file.",
    fields: [
      { name: "loras", kind: "loras", label: "LoRAs" },
      { name: "method", kind: "choice", label: "Method", choices: [["concat", "Concatenate: exact, ranks add up"], ["svd", "Cut to a rank"]] },
      rank({ when: is("method", "svd") }),
      convRank("0 is the rank above.", { when: is("method", "svd") }),
      { name: "checkpoint", kind: "checkpoints", label: "Checkpoint that they are for", hint: "Needed for LoHa, LoKr, DoRA and other kinds than LoRA." },
      format(LORA_FORMATS),
      output,
    ],
  },
  get: {
    label: "Get a model",
    about: "From a Hugging Face repository, or by the link of a file. What is interrupted goes on where it was.",
    fields: [
      { name: "source", kind: "text", label: "Source", needed: true, max: 2000, empty: "Say where it is.", look: true, hint: "owner/name, the address of its page, or the link of a .safetensors file." },
      { name: "file", kind: "files", label: "File", when: (values, form) => form.found !== null },
      { name: "to", kind: "choice", label: "Folder", choices: [["auto", "By what it is"], ["checkpoints", "Checkpoints"], ["loras", "LoRAs"], ["vae", "VAEs"], ["embeddings", "Embeddings"], ["hypernetworks", "Hypernetworks"], ["upscalers", "Upscalers"]] },
      { name: "fp16", kind: "check", label: "The fp16 variant, where there is one", value: false },
      { ...output, label: "Name here", needed: false, hint: "Empty for the one that it has there." },
      { name: "sha256", kind: "text", label: "SHA-256", max: 64, hint: "Of a linked file, if you know it. Files of repositories are always checked." },
    ],
  },
};
