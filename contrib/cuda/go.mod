module understudy.dev/contrib/cuda

go 1.26.0

require (
	github.com/ebitengine/purego v0.11.3
	understudy.dev v0.0.0
)

require (
	github.com/klauspost/compress v1.20.3 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace understudy.dev => ../../
