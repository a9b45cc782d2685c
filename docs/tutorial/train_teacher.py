"""Stands for your own training: plain PyTorch, a ResNet-18, its weights and its ONNX file.

python docs/tutorial/train_teacher.py IMAGES OUT [EPOCHS]
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 48


def main(images: Path, out: Path, epochs: int) -> None:
    torch.manual_seed(0)
    plain = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    augmented = [v2.RandomAffine(5, (0.05, 0.05), (0.9, 1.1)), *plain]
    train = ImageFolder(images / "train", v2.Compose(augmented))
    validation = ImageFolder(images / "validation", v2.Compose(plain))

    model = resnet18(num_classes=len(train.classes))
    batches = DataLoader(train, batch_size=32, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, epochs * len(batches))
    for epoch in range(epochs):
        model.train()
        for inputs, labels in batches:
            optimizer.zero_grad()
            loss = cross_entropy(model(inputs), labels)
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.2f}")

    model.eval()
    with torch.inference_mode():
        right = [model(x).argmax(1) == y for x, y in DataLoader(validation, batch_size=64)]
    print(f"right on {torch.cat(right).float().mean():.1%} of {len(validation)} validation images")

    out.mkdir(parents=True, exist_ok=True)
    names = {"classes": json.dumps(train.classes)}  # so that their order can be checked
    save_file(model.state_dict(), out / "resnet18.safetensors", names)
    example = torch.zeros(1, 3, SIZE, SIZE)
    torch.onnx.export(model, (example,), out / "resnet18.onnx", dynamo=True, verbose=False)
    print(f"wrote resnet18.safetensors and resnet18.onnx to {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 15)
