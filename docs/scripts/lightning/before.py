"""A classifier with Lightning, in epochs, with a schedule and a validation."""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
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


seed_everything(0)
points = torch.randn(1280, 2, generator=torch.Generator().manual_seed(0))
inside = (points.norm(dim=1) < 1.2).long()
train, validation = TensorDataset(points[256:], inside[256:]), TensorDataset(points[:256], inside[:256])
train_loader = DataLoader(train, batch_size=64, shuffle=True)
validation_loader = DataLoader(validation, batch_size=256)
trainer = Trainer(max_epochs=30, accelerator="cpu", log_every_n_steps=1)
trainer.fit(Classifier(), train_loader, validation_loader)
