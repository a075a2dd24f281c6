"""A small language model with the Hugging Face Trainer, with a schedule and an evaluation."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

set_seed(0)
numbers = torch.randint(0, 16, (320, 1), generator=torch.Generator().manual_seed(0)) + torch.arange(24) * 3
data = [{"input_ids": row, "labels": row} for row in numbers % 16]
model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=24, n_embd=32, n_layer=2, n_head=2))

arguments = TrainingArguments(
    output_dir="trainer",
    num_train_epochs=10,
    per_device_train_batch_size=16,
    learning_rate=3e-3,
    warmup_steps=20,
    eval_strategy="epoch",
    logging_steps=1,
    report_to="none",
    use_cpu=True,
)
trainer = Trainer(model, arguments, train_dataset=data[64:], eval_dataset=data[:64])
trainer.train()
