package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	image    = ".img"
	snapshot = ".snapshot"
	stage    = ".stage"
)

func (d *driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: name, Endpoint: d.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

func (d *driver) NotifyRegistrationStatus(context.Context, *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	return &registration.RegistrationStatusResponse{}, nil
}

func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: name, VendorVersion: "1"}, nil
}

func (d *driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	var all []*csi.PluginCapability
	for _, kind := range []csi.PluginCapability_Service_Type{
		csi.PluginCapability_Service_CONTROLLER_SERVICE, csi.PluginCapability_Service_GROUP_CONTROLLER_SERVICE,
	} {
		service := &csi.PluginCapability_Service{Type: kind}
		all = append(all, &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: service}})
	}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: all}, nil
}

func (d *driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

func (d *driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	var all []*csi.ControllerServiceCapability
	for _, kind := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
	} {
		rpc := &csi.ControllerServiceCapability_RPC{Type: kind}
		all = append(all, &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{Rpc: rpc}})
	}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: all}, nil
}

func (d *driver) CreateVolume(_ context.Context, request *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	size := request.GetCapacityRange().GetRequiredBytes()
	path, source := d.file(request.Name, image), request.GetVolumeContentSource()
	if !exists(path) {
		partial := path + ".partial"
		var err error
		if from := source.GetSnapshot(); from != nil {
			err = run("cp", "--reflink=auto", "--sparse=always", d.file(from.SnapshotId, snapshot), partial)
		} else {
			err = format(partial, size)
		}
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		if err := os.Rename(partial, path); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: request.Name, CapacityBytes: size, ContentSource: source}}, nil
}

// An empty file system in which every user may write.
func format(path string, size int64) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(size); err != nil {
		return err
	}
	if err := run("mkfs.ext4", "-q", path); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "format")
	if err != nil {
		return err
	}
	defer os.Remove(folder)
	if err := run("mount", "-o", "loop", path, folder); err != nil {
		return err
	}
	_ = os.Remove(folder + "/lost+found")
	changed := os.Chmod(folder, 0o777)
	if err := run("umount", folder); err != nil {
		return err
	}
	return changed
}

func (d *driver) DeleteVolume(_ context.Context, request *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	_ = os.Remove(d.file(request.VolumeId, image))
	return &csi.DeleteVolumeResponse{}, nil
}

func (d *driver) ValidateVolumeCapabilities(_ context.Context, request *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	confirmed := &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: request.VolumeCapabilities}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: confirmed}, nil
}

func (d *driver) CreateSnapshot(_ context.Context, request *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	taken, err := d.take(map[string]string{request.SourceVolumeId: request.Name})
	if err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: taken[0]}, nil
}

// Takes snapshots of volumes, by their names, at one moment: all file systems are frozen while the first of them is copied.
func (d *driver) take(names map[string]string) ([]*csi.Snapshot, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if why, err := os.ReadFile(d.file("fail", "")); err == nil {
		return nil, status.Error(codes.Internal, strings.TrimSpace(string(why)))
	}
	missing := map[string]string{}
	for volume, id := range names {
		if !exists(d.file(id, snapshot)) {
			missing[volume] = id
		}
	}
	for volume := range missing {
		mounted, err := os.ReadFile(d.file(volume, stage))
		// A path that is no mount any more, as after a power cut, would freeze the node's own disk.
		if err != nil || run("mountpoint", "-q", string(mounted)) != nil {
			continue
		}
		if err := run("fsfreeze", "--freeze", string(mounted)); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		defer run("fsfreeze", "--unfreeze", string(mounted))
	}
	now := time.Now()
	for volume, id := range missing {
		if err := d.copy(volume, d.file(id, snapshot), now); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	var all []*csi.Snapshot
	for volume, id := range names {
		info, err := os.Stat(d.file(id, snapshot))
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		all = append(all, &csi.Snapshot{
			SnapshotId: id, SourceVolumeId: volume, SizeBytes: info.Size(),
			CreationTime: timestamppb.New(info.ModTime()), ReadyToUse: !exists(d.file("late", "")),
		})
	}
	return all, nil
}

func (d *driver) copy(volume, path string, at time.Time) error {
	partial := path + ".partial"
	if err := run("cp", "--reflink=auto", "--sparse=always", d.file(volume, image), partial); err != nil {
		return err
	}
	if err := os.Chtimes(partial, at, at); err != nil {
		return err
	}
	return os.Rename(partial, path)
}

func (d *driver) DeleteSnapshot(_ context.Context, request *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	_ = os.Remove(d.file(request.SnapshotId, snapshot))
	return &csi.DeleteSnapshotResponse{}, nil
}
