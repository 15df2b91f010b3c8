"""Models by reference: built-ins, timm, torchvision, transformers and local code; weights and layer tables."""
