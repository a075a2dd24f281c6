"""A classifier in plain PyTorch, in epochs, with a schedule and a validation; no checkpoint."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 30

torch.manual_seed(0)
points = torch.randn(1280, 2, generator=torch.Generator().manual_seed(0))
inside = (points.norm(dim=1) < 1.2).long()
train = TensorDataset(points[256:], inside[256:])
model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)

loader = DataLoader(train, batch_size=64, shuffle=True)
for epoch in range(EPOCHS):
    for x, y in loader:
        model.train()
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scheduler.step()
    model.eval()
    with torch.no_grad():
        accuracy = (model(points[:256]).argmax(1) == inside[:256]).float().mean().item()
    print(f"epoch {epoch + 1}: accuracy {accuracy:.3f}")
