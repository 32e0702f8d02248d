module understudy.dev/contrib/cuda

go 1.26.0

require (
	github.com/ebitengine/purego v0.11.3
	understudy.dev v0.0.0
)

replace understudy.dev => ../../
