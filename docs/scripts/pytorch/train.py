"""A classifier in plain PyTorch, in epochs, with a schedule and a validation; resumable at any step."""

import torch
from resumable import Session
from resumable_state import Batches, endless, random_state, seed_all, set_random_state
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 30

session = Session(target=EPOCHS * 16)  # an epoch is 16 batches
seed_all(session.seed)
points = torch.randn(1280, 2, generator=torch.Generator().manual_seed(0))
inside = (points.norm(dim=1) < 1.2).long()
train = TensorDataset(points[256:], inside[256:])
model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)

step = session.step
batches = Batches(len(train), 64, seed=session.seed, step=step)
loader = endless(DataLoader(train, batch_sampler=batches, generator=torch.Generator()))
if session.resume:
    state = torch.load(session.resume / "state.pt")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    set_random_state(state["random"])
while session.running(step):
    x, y = next(loader)
    model.train()
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    step += 1
    session.log(step, "loss", loss)
    if step % len(batches) == 0:
        scheduler.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(points[:256]).argmax(1) == inside[:256]).float().mean().item()
        session.log(step, "accuracy", accuracy)
        print(f"epoch {step // len(batches)}: accuracy {accuracy:.3f}")
    if session.due(step):
        with session.checkpoint(step) as folder:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"scheduler": scheduler.state_dict(), "random": random_state()}
            torch.save(state, folder / "state.pt")
