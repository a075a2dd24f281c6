"""A small language model with the Hugging Face Trainer, with a schedule and an evaluation; resumable at any step."""

import torch
from resumable import Session
from resumable_transformers import SessionCallback
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

session = Session(target=160)  # 10 epochs of 16 batches
set_seed(session.seed)
numbers = torch.randint(0, 16, (320, 1), generator=torch.Generator().manual_seed(0)) + torch.arange(24) * 3
data = [{"input_ids": row, "labels": row} for row in numbers % 16]
model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=24, n_embd=32, n_layer=2, n_head=2))

arguments = TrainingArguments(
    output_dir="trainer",
    max_steps=session.target,
    seed=session.seed,
    save_strategy="no",
    per_device_train_batch_size=16,
    learning_rate=3e-3,
    warmup_steps=20,
    eval_strategy="epoch",
    logging_steps=1,
    report_to="none",
    use_cpu=True,
)
trainer = Trainer(
    model, arguments, train_dataset=data[64:], eval_dataset=data[:64], callbacks=[SessionCallback(session)]
)
trainer.train(resume_from_checkpoint=session.resume and str(session.resume))
