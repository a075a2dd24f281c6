"""A classifier with Lightning, in epochs, with a schedule and a validation; resumable at any step."""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from resumable import Session
from resumable_lightning import SessionCallback, checkpoint_of
from resumable_state import Batches
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Classifier(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))

    def training_step(self, batch):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch):
        self.log("accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)]


session = Session(target=480)  # 30 epochs of 16 batches
seed_everything(session.seed)
points = torch.randn(1280, 2, generator=torch.Generator().manual_seed(0))
inside = (points.norm(dim=1) < 1.2).long()
train, validation = TensorDataset(points[256:], inside[256:]), TensorDataset(points[:256], inside[:256])
batches = Batches(len(train), 64, seed=session.seed)
train_loader = DataLoader(train, batch_sampler=batches)
validation_loader = DataLoader(validation, batch_size=256)
callbacks = [SessionCallback(session, batches)]
trainer = Trainer(
    max_steps=session.target,
    accelerator="cpu",
    log_every_n_steps=1,
    callbacks=callbacks,
    enable_checkpointing=False,
)
trainer.fit(Classifier(), train_loader, validation_loader, ckpt_path=checkpoint_of(session))
