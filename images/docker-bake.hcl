# docker buildx bake -f images/docker-bake.hcl -f images/bases.lock.json [TARGET] [--push]
# The bases are variables of the lock file; REGISTRY, TAG, REVISION and CREATED come from the environment.

# Where to push, with the slash at its end: "registry.example.com/team/".
variable "REGISTRY" {
  default = ""
}

variable "TAG" {
  default = "0.1.0"
}

# The commit that is built.
variable "REVISION" {
  default = ""
}

# Its time, RFC 3339.
variable "CREATED" {
  default = ""
}

variable "PYTHON_BASE" {
  default = ""
}

group "default" {
  targets = ["ctl", "execute", "cpu", "gpu"]
}

group "all" {
  targets = ["ctl", "execute", "cpu", "gpu", "tpu"]
}

target "_image" {
  context    = "."
  dockerfile = "images/Dockerfile"
  args = {
    PYTHON_BASE = PYTHON_BASE
  }
  labels = {
    "org.opencontainers.image.title"     = "leti"
    "org.opencontainers.image.licenses"  = "Apache-2.0"
    "org.opencontainers.image.version"   = TAG
    "org.opencontainers.image.revision"  = REVISION
    "org.opencontainers.image.created"   = CREATED
    "org.opencontainers.image.base.name" = PYTHON_BASE
  }
  annotations = [
    "index,manifest:org.opencontainers.image.title=leti",
    "index,manifest:org.opencontainers.image.version=${TAG}",
    "index,manifest:org.opencontainers.image.revision=${REVISION}",
  ]
  attest = [
    "type=provenance,mode=max",
    "type=sbom",
  ]
}

target "ctl" {
  inherits  = ["_image"]
  target    = "ctl"
  tags      = ["${REGISTRY}leti-ctl:${TAG}"]
  platforms = ["linux/amd64", "linux/arm64"]
  labels = {
    "org.opencontainers.image.description" = "leti's control plane"
  }
}

target "execute" {
  inherits  = ["_image"]
  target    = "execute"
  tags      = ["${REGISTRY}leti-execute:${TAG}"]
  platforms = ["linux/amd64", "linux/arm64"]
  labels = {
    "org.opencontainers.image.description" = "leti's judge of model-written code"
  }
}

target "cpu" {
  inherits  = ["_image"]
  target    = "cpu"
  tags      = ["${REGISTRY}leti-cpu:${TAG}"]
  platforms = ["linux/amd64", "linux/arm64"]
  labels = {
    "org.opencontainers.image.description" = "leti's stages without an accelerator"
  }
}

target "gpu" {
  inherits  = ["_image"]
  target    = "gpu"
  tags      = ["${REGISTRY}leti-gpu:${TAG}"]
  platforms = ["linux/amd64"]
  labels = {
    "org.opencontainers.image.description" = "leti's stages with CUDA"
  }
}

target "tpu" {
  inherits  = ["_image"]
  target    = "tpu"
  tags      = ["${REGISTRY}leti-tpu:${TAG}"]
  platforms = ["linux/amd64"]
  labels = {
    "org.opencontainers.image.description" = "leti's stages on TPUs"
  }
}
