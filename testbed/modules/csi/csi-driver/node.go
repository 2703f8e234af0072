package main

import (
	"context"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.node}, nil
}

func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	rpc := &csi.NodeServiceCapability_RPC{Type: csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME}
	return &csi.NodeGetCapabilitiesResponse{Capabilities: []*csi.NodeServiceCapability{{Type: &csi.NodeServiceCapability_Rpc{Rpc: rpc}}}}, nil
}

func (d *driver) NodeStageVolume(_ context.Context, request *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	note := d.file(request.VolumeId, stage)
	if run("mountpoint", "-q", request.StagingTargetPath) != nil {
		if err := run("mount", "-o", "loop", d.file(request.VolumeId, image), request.StagingTargetPath); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	if err := os.WriteFile(note, []byte(request.StagingTargetPath), 0o600); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

func (d *driver) NodeUnstageVolume(_ context.Context, request *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if err := unmount(request.StagingTargetPath); err != nil {
		return nil, err
	}
	_ = os.Remove(d.file(request.VolumeId, stage))
	return &csi.NodeUnstageVolumeResponse{}, nil
}

func (d *driver) NodePublishVolume(_ context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := os.MkdirAll(request.TargetPath, 0o750); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if run("mountpoint", "-q", request.TargetPath) == nil {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	err := run("mount", "--bind", request.StagingTargetPath, request.TargetPath)
	if err == nil && request.Readonly {
		err = run("mount", "-o", "remount,bind,ro", request.TargetPath)
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *driver) NodeUnpublishVolume(_ context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := unmount(request.TargetPath); err != nil {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, os.RemoveAll(request.TargetPath)
}

func unmount(path string) error {
	if run("mountpoint", "-q", path) != nil {
		return nil
	}
	if err := run("umount", path); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}
