package journal

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// An Environment is what a program ran in, as far as it can change what the
// program computes. The first batch of each tenure pins it.
type Environment struct {
	Go      string            `json:"go"`               // toolchain version
	OS      string            `json:"os"`               // GOOS
	Arch    string            `json:"arch"`             // GOARCH
	Level   string            `json:"level,omitempty"`  // GOAMD64, GOARM64 or like: decides about fused multiply-add
	Module  string            `json:"module,omitempty"` // main module and its version
	Modules map[string]string `json:"modules,omitempty"`
}

// ThisEnvironment describes the running program.
func ThisEnvironment() Environment {
	e := Environment{Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return e
	}
	e.Module = strings.TrimSuffix(info.Main.Path+" "+info.Main.Version, " ")
	for _, s := range info.Settings {
		if s.Key == "GO"+strings.ToUpper(runtime.GOARCH) {
			e.Level = s.Value
		}
	}
	e.Modules = make(map[string]string, len(info.Deps))
	for _, m := range info.Deps {
		e.Modules[m.Path] = m.Version
	}
	return e
}

// Numeric returns why floating point results of e and other may differ bit for
// bit, or "" if nothing speaks for it. The same source fuses multiply and add
// under GOAMD64=v3 and not under v1 (measured with go1.26).
func (e Environment) Numeric(other Environment) string {
	switch {
	case e.Arch != other.Arch:
		return "GOARCH " + e.Arch + " against " + other.Arch
	case e.Level != other.Level:
		return "GO" + strings.ToUpper(e.Arch) + " " + e.Level + " against " + other.Level
	case e.Go != other.Go:
		return e.Go + " against " + other.Go
	}
	return ""
}
